/* Runs the Lua script that its argument names. */
#include <stdio.h>

#include "lauxlib.h"
#include "lualib.h"

int main(int argc, char **argv) {
    lua_State *lua = luaL_newstate();
    if (lua == NULL || argc != 2)
        return 2;
    luaL_openlibs(lua);
    if (luaL_dofile(lua, argv[1]) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(lua, -1));
        return 1;
    }
    lua_close(lua);
    return 0;
}
