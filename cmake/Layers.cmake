# The include graph: a room may include itself and the rooms named in its line. Rooms.cmake links by this table and
# check_layers.cmake (a ctest) holds the sources to it.
set(REV_LAYERS_base "")
set(REV_LAYERS_kernels base)
set(REV_LAYERS_io base)
set(REV_LAYERS_data base io)
set(REV_LAYERS_schemes base kernels)
set(REV_LAYERS_nn base kernels)
set(REV_LAYERS_optim base kernels)
set(REV_LAYERS_engine base kernels schemes)
set(REV_LAYERS_models base schemes nn engine)
set(REV_LAYERS_retrofit base kernels nn engine models)
set(REV_LAYERS_train base kernels io data schemes nn optim engine models)

# The libraries beside LibTorch that a room's sources include.
set(REV_LIBRARIES_data nlohmann_json::nlohmann_json PCRE2::8BIT utf8proc::utf8proc)
set(REV_LIBRARIES_io nlohmann_json::nlohmann_json)
set(REV_LIBRARIES_train nlohmann_json::nlohmann_json)
