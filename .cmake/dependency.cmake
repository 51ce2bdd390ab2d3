# xent_dependency(<package> [<version>] TARGET <name> REPOSITORY <url> TAG <tag> [INCLUDE <dir>] [SOURCES <glob>...])
#
# Makes sure that the target <name> exists: from an installed <package> of at least <version>, or else from the sources
# at <tag>. Of fetched sources only the headers and the files in SOURCES are used, as a target xent_<package> of our
# own. The package's own build is left alone: it would bring its tests, options and install rules into ours.
function(xent_dependency package)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TARGET;REPOSITORY;TAG;INCLUDE" "SOURCES")
  if(NOT TARGET ${arg_TARGET})
    find_package(${package} ${arg_UNPARSED_ARGUMENTS} QUIET)
  endif()
  if(TARGET ${arg_TARGET})
    return()
  endif()

  message(STATUS "${package} is not installed: fetching ${arg_TAG} from ${arg_REPOSITORY}")
  include(FetchContent)
  string(TOLOWER ${package} name)
  # The folder in SOURCE_SUBDIR does not exist, and this is what makes CMake fetch without add_subdirectory.
  FetchContent_Declare(${name}
    GIT_REPOSITORY ${arg_REPOSITORY} GIT_TAG ${arg_TAG} GIT_SHALLOW TRUE SOURCE_SUBDIR sources-only)
  FetchContent_MakeAvailable(${name})
  set(root "${${name}_SOURCE_DIR}")
  set(include "$<BUILD_INTERFACE:${root}/${arg_INCLUDE}>")

  if(arg_SOURCES)
    list(TRANSFORM arg_SOURCES PREPEND "${root}/")
    file(GLOB sources ${arg_SOURCES})
    add_library(xent_${package} STATIC ${sources})
    target_include_directories(xent_${package} SYSTEM PUBLIC ${include})
    target_compile_definitions(xent_${package} PRIVATE HAVE_UNISTD_H)  # zlib's configure would have found this.
    set_target_properties(xent_${package} PROPERTIES POSITION_INDEPENDENT_CODE ON EXPORT_NAME ${name})
  else()
    add_library(xent_${package} INTERFACE)
    target_include_directories(xent_${package} SYSTEM INTERFACE ${include})
  endif()
  add_library(${arg_TARGET} ALIAS xent_${package})
endfunction()
