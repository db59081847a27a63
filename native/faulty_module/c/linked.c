/* A library that has nothing of PKCS #11 itself and is linked with one that has. dlsym(handle) finds the other's
   functions: gcc -shared -fPIC -o linked.so linked.c -Wl,--no-as-needed /path/to/other.so
   With -DOWN it has a C_GetFunctionList of its own, and the interfaces are still the other's. */
int linked_answer(void) { return 42; }
#ifdef OWN
#include <stddef.h>
#include <dlfcn.h>
/* The list of the library that OWN names, which is not the one it is linked with. */
unsigned long C_GetFunctionList(void **list) {
    void *library = dlopen(OWN, RTLD_NOW | RTLD_LOCAL);
    unsigned long (*get)(void **) = library ? (unsigned long (*)(void **))dlsym(library, "C_GetFunctionList") : NULL;
    return get ? get(list) : 6;
}
#endif
