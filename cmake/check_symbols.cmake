# Fails where the shared library exports a symbol from outside namespace rev.
# cmake -DNM=nm -DLIBRARY=librev.so -P cmake/check_symbols.cmake
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND ${NM} --dynamic --defined-only --format=just-symbols ${LIBRARY}
                OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
if(NOT symbols MATCHES "_ZN3rev")
  message(FATAL_ERROR "${LIBRARY} exports nothing of namespace rev")
endif()
list(FILTER symbols EXCLUDE REGEX "^_Z(Z|GV|GVZ|T[ISTV]|T[hvc][n0-9_]+)?N[KV]*3rev")
if(symbols)
  list(JOIN symbols "\n  " text)
  message(FATAL_ERROR "${LIBRARY} exports symbols that are not of namespace rev:\n  ${text}")
endif()
