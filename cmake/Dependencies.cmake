# Everything but LibTorch.
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(nlohmann_json REQUIRED)
if(REV_EXAMPLES)
  find_package(CLI11 REQUIRED)
endif()
if(REV_TESTS)
  find_package(GTest REQUIRED)
endif()
