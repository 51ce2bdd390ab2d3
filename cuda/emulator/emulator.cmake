# The emulator: runs CUDA C++ on the CPU, for tests (docs/emulator.md). Of the toolkit it needs the headers alone.
#
# xent_emulator(NAME [SANITIZERS]) adds a library of that name; what links it sees the toolkit's headers. A program with
# kernels must be compiled with the same sanitizers: xent_emulated(PROGRAM NAME [SANITIZERS]) does both.
# xent_emulator_blas(NAME EMULATOR) adds cuBLAS and cuBLASLt.
set(emulator_dir "${CMAKE_CURRENT_LIST_DIR}")

function(xent_emulator name)
  set(sanitizers "${ARGN}${XENT_SANITIZE}")
  file(GLOB sources CONFIGURE_DEPENDS ${emulator_dir}/*.cpp)
  add_library(${name} STATIC ${sources})
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_include_directories(${name} PUBLIC $<TARGET_PROPERTY:xent,INTERFACE_INCLUDE_DIRECTORIES>)
  target_include_directories(${name} SYSTEM PUBLIC "${XENT_CUDA_INCLUDE_DIR}")
  target_link_libraries(${name} PUBLIC Threads::Threads PRIVATE fmt::fmt)
  xent_compile_options(${name})
  target_compile_options(${name} PRIVATE -O2)
  if(sanitizers MATCHES "thread")
    # What the emulator does between two threads is no order between them: it is not instrumented itself.
    target_compile_definitions(${name} PRIVATE XENT_EMULATOR_RACES)
    target_compile_options(${name} PRIVATE -fno-sanitize=thread)
  elseif(ARGN)
    target_compile_options(${name} PRIVATE -fsanitize=${ARGN} -fno-sanitize-recover=all)
  endif()
endfunction()

function(xent_emulated program emulator)
  target_link_libraries(${program} PRIVATE ${emulator})
  xent_compile_options(${program})
  # #pragma unroll is nvcc's.
  target_compile_options(${program} PRIVATE -Wno-unknown-pragmas)
  if(ARGN)
    target_compile_options(${program} PRIVATE -fsanitize=${ARGN} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
    target_link_options(${program} PRIVATE -fsanitize=${ARGN})
  endif()
endfunction()

function(xent_emulator_blas name emulator)
  file(GLOB sources CONFIGURE_DEPENDS ${emulator_dir}/blas/*.cpp)
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC ${emulator} PRIVATE Eigen3::Eigen fmt::fmt)
  xent_compile_options(${name})
  target_compile_options(${name} PRIVATE -O2)
endfunction()
