// ops_page: the text of docs/ops.md, printed from the op table, so that it cannot tell anything else.
#pragma once

#include <string>

namespace xent {

std::string ops_page();

}  // namespace xent
