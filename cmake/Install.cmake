# `cmake --install`, and find_package(rev) from the install and from the build tree.
include(CMakePackageConfigHelpers)
set(folder ${CMAKE_INSTALL_LIBDIR}/cmake/rev)

configure_package_config_file(cmake/rev-config.cmake.in rev-config.cmake INSTALL_DESTINATION ${folder})
# LibTorch keeps no binary interface from one minor version to the next, and neither does rev.
write_basic_package_version_file(rev-config-version.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS rev EXPORT rev-targets)
install(DIRECTORY include/rev TYPE INCLUDE FILES_MATCHING PATTERN *.h)
install(EXPORT rev-targets NAMESPACE rev:: DESTINATION ${folder})
install(FILES ${PROJECT_BINARY_DIR}/rev-config.cmake ${PROJECT_BINARY_DIR}/rev-config-version.cmake DESTINATION ${folder})
export(EXPORT rev-targets NAMESPACE rev:: FILE rev-targets.cmake)
