# Everything but LibTorch: find_package, else (REV_PROVIDE) Debian's packages unpacked into the cache folder, which needs
# no root, else FetchContent.
find_package(OpenMP REQUIRED COMPONENTS CXX)

set(needed nlohmann_json PCRE2 utf8proc)
if(REV_EXAMPLES OR REV_TESTS)
  list(APPEND needed CLI11)
endif()
if(REV_TESTS)
  list(APPEND needed GTest)
endif()
set(debian_nlohmann_json nlohmann-json3-dev)
set(debian_PCRE2 libpcre2-dev libpcre2-8-0)
set(debian_utf8proc libutf8proc-dev libutf8proc2)
set(debian_CLI11 libcli11-dev)
set(debian_GTest libgtest-dev)

# rev_find_needed(): sets `missing` to those of `needed` that find_package does not find.
macro(rev_find_needed)
  set(missing "")
  set(missing_debian "")
  foreach(package ${needed})
    find_package(${package} QUIET)
    if(NOT ${package}_FOUND)
      list(APPEND missing ${package})
      list(APPEND missing_debian ${debian_${package}})
    endif()
  endforeach()
endmacro()

function(rev_make_debian_packages folder)
  set(apt apt-get -q -o Dir::State::lists=${folder}/lists -o Dir::Cache=${folder}/cache -o APT::Sandbox::User=)
  file(MAKE_DIRECTORY ${folder}/lists/partial ${folder}/cache/archives/partial ${folder}/archives)
  rev_run(${apt} update)
  rev_run(${CMAKE_COMMAND} -E chdir ${folder}/archives ${apt} download ${missing_debian})
  file(GLOB archives ${folder}/archives/*.deb)
  foreach(archive ${archives})
    rev_run(dpkg-deb -x ${archive} ${folder})
  endforeach()
  file(REMOVE_RECURSE ${folder}/lists ${folder}/cache ${folder}/archives)
endfunction()

rev_find_needed()
unset(rev_apt)  # a variable that is set is not searched for
unset(rev_dpkg)
find_program(rev_apt apt-get NO_CACHE)
find_program(rev_dpkg dpkg-deb NO_CACHE)
if(missing AND rev_apt AND rev_dpkg)
  cmake_host_system_information(RESULT system QUERY DISTRIB_INFO)
  string(JOIN "-" name ${system_ID} ${system_VERSION_ID} ${missing_debian})
  string(JOIN ", " text ${missing_debian})
  rev_make_once(${name} rev_make_debian_packages "${text} from ${system_NAME}'s archive, unpacked privately")
  if(${name}_FOUND)
    list(APPEND CMAKE_PREFIX_PATH ${REV_CACHE}/${name}/usr)
    rev_find_needed()
  endif()
endif()

if(missing AND REV_PROVIDE)
  include(FetchContent)
  foreach(option BUILD_GMOCK INSTALL_GTEST CLI11_INSTALL JSON_Install PCRE2_BUILD_PCRE2GREP PCRE2_BUILD_TESTS
                 UTF8PROC_INSTALL)
    set(${option} OFF CACHE INTERNAL "")
  endforeach()
  foreach(option PCRE2_SUPPORT_JIT PCRE2_STATIC_PIC)
    set(${option} ON CACHE INTERNAL "")
  endforeach()
  FetchContent_Declare(nlohmann_json
    URL https://github.com/nlohmann/json/releases/download/v3.12.0/json.tar.xz
    URL_HASH SHA256=42f6e95cad6ec532fd372391373363b62a14af6d771056dbfc86160e6dfff7aa)
  FetchContent_Declare(PCRE2
    URL https://github.com/PCRE2Project/pcre2/releases/download/pcre2-10.42/pcre2-10.42.tar.bz2
    URL_HASH SHA256=8d36cd8cb6ea2a4c2bb358ff6411b0c788633a2a45dabbf1aeb4b701d1b5e840)
  FetchContent_Declare(utf8proc
    URL https://github.com/JuliaStrings/utf8proc/archive/refs/tags/v2.8.0.tar.gz
    URL_HASH SHA256=a0a60a79fe6f6d54e7d411facbfcc867a6e198608f2cd992490e46f04b1bcecc)
  FetchContent_Declare(CLI11
    URL https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
    URL_HASH SHA256=f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a)
  FetchContent_Declare(GTest
    URL https://github.com/google/googletest/archive/refs/tags/release-1.12.1.tar.gz
    URL_HASH SHA256=81964fe578e9bd7c94dfdb09c8e4d6e6759e19967e397dbea48d1c10e45d0df2)
  FetchContent_MakeAvailable(${missing})
  if(NOT TARGET PCRE2::8BIT)
    add_library(PCRE2::8BIT ALIAS pcre2-8-static)
    target_include_directories(pcre2-8-static SYSTEM INTERFACE ${pcre2_BINARY_DIR})
  endif()
  if(NOT TARGET utf8proc::utf8proc)
    set_target_properties(utf8proc PROPERTIES POSITION_INDEPENDENT_CODE ON)
    add_library(utf8proc::utf8proc ALIAS utf8proc)
  endif()
elseif(missing)
  string(JOIN ", " text ${missing})
  string(JOIN " " packages ${missing_debian})
  message(FATAL_ERROR "Not found: ${text}. Install them (on Debian and Ubuntu: apt install ${packages}), or let CMake fetch "
                      "them into ${REV_CACHE}: -DREV_PROVIDE=ON, which the presets set.")
endif()
