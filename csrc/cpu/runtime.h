// What the bindings set and ask: the instruction set in use and how far this machine goes.
#pragma once
#include <string>
#include <vector>

#include "core/kernel.h"

namespace fastdl {

std::vector<std::string> isa_levels();  // those this machine and this build have, weakest first
std::string get_isa();
void set_isa(const std::string& name);  // throws ValueError for one that isn't in isa_levels()
void configure_from_environment();      // FASTDL_CPU_ISA, FASTDL_NUM_THREADS; throws ValueError
int available_cores();                  // what affinity and cgroup allow

}  // namespace fastdl
