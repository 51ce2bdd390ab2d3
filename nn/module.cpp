#include <xent/nn/module.h>

#include <algorithm>

#include <xent/core/require.h>

namespace xent {

namespace {

// Calls on_each(path, tensor, is_buffer) for every tensor of a module and its parts.
template <class F>
class TensorWalk : public Visitor {
 public:
  explicit TensorWalk(F on_each) : on_each_(std::move(on_each)) {}

 protected:
  void on_tensor(const char* name, Tensor& tensor) override {
    if (tensor) on_each_(path_ + name, tensor, false);
  }
  void on_buffer(const char* name, Tensor& tensor) override {
    if (tensor) on_each_(path_ + name, tensor, true);
  }
  void on_module(const char* name, Module& module) override {
    const size_t length = path_.size();
    path_ += name;
    path_ += '.';
    module.visit(*this);
    path_.resize(length);
  }

 private:
  F on_each_;
  std::string path_;
};

// Appends a tensor unless it is there already: one that layers share.
void append_once(std::vector<NamedTensor>& list, const std::string& path, const Tensor& tensor) {
  const auto same = [&](const NamedTensor& other) { return other.value.id() == tensor.id(); };
  if (std::ranges::none_of(list, same)) list.push_back({path, tensor});
}

class SummaryTable : public Visitor {
 public:
  void add(const std::string& path, Module& module) {
    rows_.push_back({path, module.describe(), "", 0});
    const size_t length = path_.size();
    path_ = path.empty() ? "" : path + ".";
    module.visit(*this);
    path_.resize(length);
  }

  std::string str() const {
    size_t name_width = 4, module_width = 6, shape_width = 10;
    int64_t total = 0;
    for (const Row& row : rows_) {
      name_width = std::max(name_width, row.path.size());
      module_width = std::max(module_width, row.module.size());
      shape_width = std::max(shape_width, row.shapes.size());
      total += row.elements;
    }
    const auto line = [&](std::string_view name, std::string_view module, std::string_view shapes,
                          std::string_view count) {
      return fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>10}\n", name, name_width, module, module_width, shapes,
                         shape_width, count);
    };
    std::string text = line("name", "module", "parameters", "elements");
    for (const Row& row : rows_)
      text += line(row.path, row.module, row.shapes, row.elements ? std::to_string(row.elements) : "");
    return text + line("", "", "total", std::to_string(total));
  }

 protected:
  void on_tensor(const char* name, Tensor& tensor) override {
    if (!tensor) return;
    Row& row = rows_.back();
    row.shapes += fmt::format("{}{} {}", row.shapes.empty() ? "" : ", ", name, tensor.shape());
    if (tensor.requires_grad()) row.elements += tensor.elements();
  }
  void on_buffer(const char* name, Tensor& tensor) override { on_tensor(name, tensor); }
  void on_module(const char* name, Module& module) override {
    const std::string outer = path_;
    add(outer + name, module);
    path_ = outer;
  }

 private:
  struct Row {
    std::string path, module, shapes;
    int64_t elements;
  };
  std::vector<Row> rows_;
  std::string path_;
};

}  // namespace

Tensor parameter(const Tensor& initial) {
  Tensor tensor = Tensor::persistent("a parameter", initial.shape(), initial.dtype(), initial.device());
  tensor.copy_from(initial);
  tensor.set_requires_grad();
  return tensor;
}

Tensor Module::forward_with(const Tensor&, const Module&) { return {}; }

std::vector<Parameter> Module::parameters() {
  std::vector<Parameter> list;
  TensorWalk walk([&](const std::string& path, Tensor& tensor, bool) {
    if (tensor.requires_grad()) append_once(list, path, tensor);
  });
  visit(walk);
  return list;
}

std::vector<NamedTensor> Module::state() {
  std::vector<NamedTensor> list;
  TensorWalk walk([&](const std::string& path, Tensor& tensor, bool) { append_once(list, path, tensor); });
  visit(walk);
  return list;
}

void Module::to(Device device) {
  std::vector<std::pair<uint64_t, Tensor>> moved;  // by old id: layers that share a tensor share it afterwards
  TensorWalk walk([&](const std::string&, Tensor& tensor, bool) {
    const uint64_t id = tensor.id();
    const auto found = std::ranges::find(moved, id, &std::pair<uint64_t, Tensor>::first);
    tensor = found != moved.end() ? found->second : tensor.to(device);
    if (found == moved.end()) moved.push_back({id, tensor});
  });
  visit(walk);
}

void Module::set_requires_grad(bool on) {
  TensorWalk walk([&](const std::string&, Tensor& tensor, bool is_buffer) {
    if (!is_buffer) tensor.set_requires_grad(on);
  });
  visit(walk);
}

Module& Sequential::operator[](size_t i) {
  require<ArgumentError>(i < modules_.size(), "Sequential: module {} of {}", i, modules_.size());
  return *modules_[i];
}

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  for (size_t i = 0; i < modules_.size(); ++i) {
    if (Tensor both = i + 1 < modules_.size() ? modules_[i]->forward_with(y, *modules_[i + 1]) : Tensor()) {
      y = both;
      ++i;
    } else {
      y = modules_[i]->forward(y);
    }
  }
  return y;
}

void Sequential::visit(Visitor& visitor) {
  for (size_t i = 0; i < modules_.size(); ++i) visitor(std::to_string(i).c_str(), *modules_[i]);
}

std::string summary(Module& model) {
  SummaryTable table;
  table.add("", model);
  return table.str();
}

}  // namespace xent
