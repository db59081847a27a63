// Preloaded into a VM: loads the library that INITIALIZED_BEFORE names and initialises it before anybody else.
// For test/safety/exit_matrix_test.exs.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

extern char *program_invocation_short_name;

__attribute__((constructor)) static void before(void) {
    const char *path = getenv("INITIALIZED_BEFORE");
    // Not in the shells that start a VM.
    if (!path || strcmp(program_invocation_short_name, "beam.smp") != 0) return;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    unsigned long (*initialize)(void *) =
        library ? (unsigned long (*)(void *))dlsym(library, "C_Initialize") : NULL;
    struct {
        void *functions[4];
        unsigned long flags; // CKF_OS_LOCKING_OK
        void *reserved;
    } arguments = {{0}, 2, NULL};
    if (!initialize || initialize(&arguments) != 0) abort();
}
