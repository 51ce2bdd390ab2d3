"""What the programs around the kernels make of text: cuda/gpu_check's report, what cuda/compile_check reads of ptxas, and
where cuda/emulator/mutants finds mutants. ctest runs it as `tools`."""
import importlib.machinery
import importlib.util
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True


def load(path):
    loader = importlib.machinery.SourceFileLoader(path.replace("/", "_").removesuffix(".py"), str(ROOT / path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


report = load("tests/gpu/report.py")
compile_check = load("cuda/compile_check")
mutate = load("cuda/emulator/mutate.py")

OURS = """
{"table": "device", "name": "Some GPU", "capability": "9.0", "processors": 132, "memory_gib": 79.6, "driver": 13000, "runtime": 13000}
{"table": "epilogue", "row": "bias", "what": "f32", "works": true}
{"table": "epilogue", "row": "drelu", "what": "f32", "works": true}
{"table": "epilogue", "row": "bias", "what": "bf16", "works": false}
{"table": "loss", "row": "[8192, 32000] f32", "what": "forward", "ms": 0.5, "bytes": 1e9}
{"table": "loss", "row": "[8192, 32000] f32", "what": "copy", "ms": 0.8, "bytes": 2e9}
{"table": "classes", "row": "[4096, 32768] f32", "what": "copy", "ms": 0.4, "bytes": 1e9}
{"table": "classes", "row": "[4096, 32768] f32", "what": "fused", "ms": 0.5, "bytes": 1e9}
{"table": "classes", "row": "[65536, 2048] f32", "what": "copy", "ms": 0.4, "bytes": 1e9}
{"table": "classes", "row": "[65536, 2048] f32", "what": "fused", "ms": 4.0, "bytes": 1e9}
{"table": "training", "row": "MLP 784-512-256-10, batch 64", "what": "eager", "ms": 0.2, "epoch_s": 0.2, "images": 59968}
{"table": "training", "row": "MLP 784-512-256-10, batch 64", "what": "graph", "ms": 0.05, "epoch_s": 0.05, "images": 59968}
some warning, and a line that breaks off:
{"table": "loss", "row":
"""
THEIRS = '{"table": "training", "row": "MLP 784-512-256-10, batch 64", "what": "step", "ms": 0.6}\n'


class Report(unittest.TestCase):
    def setUp(self):
        self.figures = report.parse(OURS, report.OURS) + report.parse(THEIRS, report.EAGER)

    def test_reads_every_whole_figure(self):
        self.assertEqual(len(self.figures), 13)
        self.assertEqual(report.find(self.figures, "training", report.EAGER)["ms"], 0.6)
        self.assertIsNone(report.find(self.figures, "training", report.COMPILED))

    def test_speaks_in_percent_of_the_copy_of_the_same_run(self):
        self.assertIn("| [8192, 32000] f32 | 2500 GB/s | 0.5000 (80 %) |", report.loss_table(self.figures))
        self.assertIn("| [4096, 32768] f32 | 0.5000 | 0.4000 | 80 % |", report.classes_table(self.figures))

    def test_puts_eager_graph_and_pytorch_in_one_row(self):
        self.assertIn("| MLP 784-512-256-10, batch 64 | 0.2000 | 0.0500 | 0.050 s of 59968 | 0.6000 |  |",
                      report.training_table(self.figures))
        self.assertIn("| bias | yes | no |\n| drelu | yes |  |", report.epilogue_table(self.figures))

    def test_says_which_promises_are_kept(self):
        self.assertEqual([kept for _, kept in report.goals(self.figures)], [False, True])
        self.assertEqual([kept for _, kept in report.goals([])], [None, None])

    def test_lists_the_checks_that_failed(self):
        tests = [{"name": "a", "step": "tests", "how": "passed"}, {"name": "b", "step": "tests", "how": "exits with 1"}]
        page = report.markdown({"date": "2026-01-01", "tests": tests, "figures": self.figures})
        self.assertIn("2026-01-01; Some GPU, compute capability 9.0, 80 GiB", page)
        self.assertIn("1 of 2 checks passed.\n- b: exits with 1", page)

    def test_a_run_that_ended_early_has_a_report_too(self):
        for lines in range(len(OURS.splitlines())):
            figures = report.parse("\n".join(OURS.splitlines()[:lines + 1]), report.OURS)
            device = report.find(self.figures, "device")
            report.markdown({"date": "", "device": device, "tests": [], "figures": figures})


class CompileCheck(unittest.TestCase):
    def test_reads_registers_stack_and_spills_per_architecture(self):
        log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4fastPf' for 'sm_80'
ptxas info    : Function properties for _Z4fastPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 28 registers, used 1 barriers, 512 bytes smem, 376 bytes cmem[0]
ptxas info    : Compiling entry function '_Z4slowPf' for 'sm_90'
ptxas info    : Function properties for _Z4slowPf
    16 bytes stack frame, 24 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 64 registers, 360 bytes cmem[0]
"""
        fast, slow = compile_check.usage(log)
        self.assertEqual(fast, {"name": "_Z4fastPf", "arch": "80", "registers": 28, "shared": 512, "stack": 0, "spilled": 0})
        self.assertEqual(slow, {"name": "_Z4slowPf", "arch": "90", "registers": 64, "shared": 0, "stack": 16, "spilled": 32})

    def test_knows_the_loss_by_its_files(self):
        for name, is_loss in ("softmax_cross_entropy.cu", True), ("loss_tile.cu", True), ("softmax.cu", False):
            self.assertEqual(bool(compile_check.LOSS.match(name)), is_loss)


class Mutants(unittest.TestCase):
    def found(self, text):
        return [(m.kind.name, m.line, m.match) for m in mutate.mutants_of("x.cu", text)]

    def test_are_found_in_code_of_the_device_alone(self):
        self.assertEqual(self.found("""// i < n
__global__ void copy(const float* x, float* y, int64_t n) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * 32; i < n; ++i) y[i] = x[i];  // i < n
  __syncthreads();
}
void host(int64_t n) { if (n < 3) copy("a < b"); }
template <class T> __device__ T last(const int64_t* x) { __syncwarp(); __threadfence(); return x[0] >= 3 ? T(1) : T(0); }
"""), [("narrow", 2, "int64_t"), ("narrow", 3, "int64_t"), ("narrow", 3, "int64_t"), ("bound", 3, "<"),
       ("barrier", 4, "__syncthreads"), ("warp", 7, "__syncwarp"), ("fence", 7, "__threadfence"), ("bound", 7, ">=")])

    def test_declarations_and_arguments_of_templates_are_none(self):
        self.assertEqual(self.found("__device__ int64_t index(int64_t n);\n__device__ void f() { g<int64_t>(); }\n"),
                         [])

    def test_fields_of_arguments_can_be_narrow(self):
        self.assertEqual(self.found("struct Rows {\n  int64_t stride;\n  const int64_t* labels;\n};\n"),
                         [("narrow", 2, "int64_t")])


if __name__ == "__main__":
    unittest.main()
