include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/xent")

# The headers in folders named cpu are the kernels' own; these are for sources only.
set(private_headers)
foreach(header
    as_dtype
    atomic_file
    batch_norm2d
    binary
    broadcast
    centred
    check
    clip_attrs
    concat
    conv2d
    describe
    dropout
    gather_batch
    gemm_shape
    label_guess
    layer_norm
    linear
    loss_call
    loss_rules
    matmul
    metrics_call
    mxnet_labels
    onnxruntime_check
    op_trial
    optimizer_steps
    overlap
    permute
    plan
    pool2d
    prefetch
    random_attrs
    random_shift_flip
    reduce
    refuse_unless
    require
    reshape
    safetensors
    schedule_rate
    shuffle
    softmax
    torch_types
    windows)
  list(APPEND private_headers PATTERN ${header}.h EXCLUDE)
endforeach()
foreach(folder core ops nn)
  install(DIRECTORY ${folder} DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/xent"
    FILES_MATCHING PATTERN "*.h" PATTERN cpu EXCLUDE ${private_headers})
endforeach()
if(XENT_WITH_CUDA)  # For ops of one's own: what a file of kernels includes.
  set(kernel_headers call.cuh check.h device.cuh error_record.h kernels.h launch.cuh)
  list(TRANSFORM kernel_headers PREPEND cuda/)
  install(FILES ${kernel_headers} DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/xent/cuda")
endif()
install(FILES nn/xent.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/xent")

# Who links xent links fmt and zlib: found again on the user's machine or, where they were fetched, installed with xent.
set(targets xent)
set(XENT_FIND_DEPENDENCIES "find_dependency(Threads)")
foreach(package fmt ZLIB)
  if(TARGET xent_${package})
    list(APPEND targets xent_${package})
  else()
    string(APPEND XENT_FIND_DEPENDENCIES "\nfind_dependency(${package})")
  endif()
endforeach()
if(XENT_WITH_CUDA)
  string(APPEND XENT_FIND_DEPENDENCIES "\nfind_dependency(CUDAToolkit ${CUDAToolkit_VERSION_MAJOR})")
endif()
install(TARGETS ${targets} EXPORT xentTargets)
install(EXPORT xentTargets NAMESPACE xent:: DESTINATION "${package_dir}")

configure_package_config_file(.cmake/xentConfig.cmake.in "${PROJECT_BINARY_DIR}/xentConfig.cmake"
  INSTALL_DESTINATION "${package_dir}")
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/xentConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/xentConfig.cmake" "${PROJECT_BINARY_DIR}/xentConfigVersion.cmake"
  DESTINATION "${package_dir}")
