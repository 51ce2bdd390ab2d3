#include <xent/cuda/error_record.h>

#include <xent/core/require.h>
#include <xent/ops/label_guess.h>
#include <xent/ops/loss_rules.h>

namespace xent::cuda {

void throw_error(const ErrorRecord& record) {
  const char* op = record.op ? record.op : "a kernel";
  if (record.kind == ErrorRecord::Kind::denominator)
    fail<ArgumentError>("{}: the mean is over a total of {}, which must be positive", op, shown(record.denominator));
  const char* weights = record.kind == ErrorRecord::Kind::class_weight     ? "class"
                        : record.kind == ErrorRecord::Kind::element_weight ? "element"
                                                                           : nullptr;
  if (weights)
    fail<ArgumentError>("{}: {} weight {} is {}; weights are finite and not negative", op, weights, record.row,
                        record.denominator);
  if (record.kind == ErrorRecord::Kind::distribution)
    fail<ArgumentError>("{}: row {} of the target is no distribution: it sums to {}{}", op, record.row,
                        shown(record.denominator), record.one_bad_value ? "" : ", with elements outside [0, 1]");
  if (record.kind == ErrorRecord::Kind::no_int)
    fail<LabelError>(
        "SoftmaxCrossEntropyLoss: row {}: label {} fits no int, and what the original makes of it is undefined",
        record.row, record.denominator);
  const LabelRange range = {.classes = record.classes,
                            .bad_row = record.row,
                            .bad = record.label,
                            .least = record.least,
                            .most = record.most,
                            .one_bad_value = record.one_bad_value};
  fail<LabelError>("{}: {}", op, range.message());
}

}  // namespace xent::cuda
