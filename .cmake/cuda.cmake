# Decides whether the CUDA backend is built: sets XENT_WITH_CUDA, and makes CMake's language CUDA ready if it is.
#
# XENT_CUDA=ON needs nvcc. AUTO wants a GPU's driver library besides: a machine that merely has the toolkit can build
# the kernels but run none, and would pay for it with minutes of compile time and a library that needs cuBLAS.
set(XENT_CUDA AUTO CACHE STRING "CUDA backend: AUTO (with nvcc and a GPU's driver), ON or OFF")
set_property(CACHE XENT_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT XENT_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "XENT_CUDA='${XENT_CUDA}': expected AUTO, ON or OFF.")
endif()

set(XENT_WITH_CUDA OFF)
set(reason "XENT_CUDA=OFF")
if(NOT XENT_CUDA STREQUAL "OFF")
  # The toolkit's usual place is often not on the PATH.
  find_program(XENT_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin
    DOC "The CUDA compiler")
  # The last two are where containers and Windows' Linux have it.
  find_library(XENT_CUDA_DRIVER NAMES libcuda.so.1 PATHS /usr/local/nvidia/lib64 /usr/lib/wsl/lib
    DOC "The library of the GPU's driver")
  if(XENT_CUDA STREQUAL "AUTO" AND NOT XENT_CUDA_DRIVER)
    set(reason "no GPU driver: XENT_CUDA=ON builds it all the same")
  elseif(NOT XENT_NVCC AND NOT CMAKE_CUDA_COMPILER)
    set(reason "no nvcc")
  else()
    set(XENT_WITH_CUDA ON)
  endif()
endif()

if(XENT_WITH_CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER "${XENT_NVCC}" CACHE FILEPATH "The CUDA compiler")
  endif()
  # A100, H100 and the last GeForce. Code for 8.0 runs on all 8.x; whatever else there is, the B200's 10.0 say, takes the
  # PTX of 9.0, which the driver compiles: that of 12.0 would be of no use to it.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90 120-real CACHE STRING "Compute capabilities to compile kernels for")
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(CMAKE_CUDA_EXTENSIONS OFF)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc takes it
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    endif()
    find_package(CUDAToolkit 12.8 REQUIRED)  # the first with compute capability 12.0
  else()
    set(XENT_WITH_CUDA OFF)
    set(reason "${XENT_NVCC} does not compile")
  endif()
endif()
if(XENT_WITH_CUDA)
  message(STATUS "xent ${PROJECT_VERSION}: CPU and CUDA ${CUDAToolkit_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
elseif(XENT_CUDA STREQUAL "ON")
  message(FATAL_ERROR "XENT_CUDA=ON: ${reason}; set XENT_NVCC to the CUDA compiler, or use XENT_CUDA=OFF.")
else()
  message(STATUS "xent ${PROJECT_VERSION}: CPU only (${reason})")
endif()

# So that a project asks the same after add_subdirectory as after find_package.
if(NOT XENT_TOP_LEVEL)
  set(xent_WITH_CUDA ${XENT_WITH_CUDA} PARENT_SCOPE)
endif()

# Makes a target of sources that name their kernels for CUDA, and adds the kernels.
function(xent_cuda_sources target)
  file(GLOB kernels CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/cuda/*.cu")
  file(GLOB host_code CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/cuda/*.cpp")
  target_sources(${target} PRIVATE ${kernels} ${host_code})
  target_compile_definitions(${target} PUBLIC XENT_WITH_CUDA)  # what ON_CUDA asks, also in a program's own ops
endfunction()
