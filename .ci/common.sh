# shellcheck shell=bash disable=SC2034
# What examples/run and tests/run share. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
packages=(cmake ninja-build g++ libeigen3-dev libfmt-dev zlib1g-dev nlohmann-json3-dev libcli11-dev
  dataset-fashion-mnist)  # Without the last, the programs train on generated digits.

# Says a line about what the script itself does, apart from what its programs say on stdout.
note() { printf 'xent: %s\n' "$*" >&2; }

# Runs apt-get as root, silently: what it said is shown only if it fails.
apt_get() {
  local log command=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 "$@")
  ((EUID == 0)) || command=(sudo "${command[@]}")
  if ! log=$("${command[@]}" 2>&1 </dev/null); then
    printf '%s\n' "$log" >&2
    return 1
  fi
}

# install_packages PACKAGE...: installs those that are missing, on Debian, Ubuntu and their kin. What cannot be
# installed is no error here: CMake fetches missing libraries, and says what else it cannot do without.
install_packages() {
  if ! command -v apt-get >/dev/null; then
    note 'no apt-get here. Needed: a C++20 compiler, CMake >= 3.20, Ninja or Make, and Eigen, fmt, zlib,' \
      'nlohmann-json, CLI11 and doctest (those that are missing, CMake fetches)'
    return
  fi
  local package missing=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then return; fi
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    note "not root and no sudo: going on without ${missing[*]}"
    return
  fi

  note "installing ${missing[*]}"
  apt_get update || apt_get update || note 'apt-get update failed'
  apt_get install --no-install-recommends "${missing[@]}" && return
  # One that cannot be had must not keep the others out.
  for package in "${missing[@]}"; do
    apt_get install --no-install-recommends "$package" || note "going on without $package"
  done
}

# build DIR [CMAKE_OPTION...] [-- BUILD_OPTION...]: configures and builds the tree in DIR.
build() {
  local dir=$1 configure=()
  shift
  while (($#)) && [[ $1 != -- ]]; do
    configure+=("$1")
    shift
  done
  # As a variable it decides for a new DIR only. An older one keeps the generator that it has.
  if command -v ninja >/dev/null; then export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}; fi
  cmake -S "$root" -B "$dir" --log-level=NOTICE "${configure[@]}"
  cmake --build "$dir" --parallel "$(nproc)" "${@:2}"
}
