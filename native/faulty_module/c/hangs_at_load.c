/* A library whose constructor does not return until a file is there: gcc -shared -fPIC -DRELEASE='"/path"' -o hangs_at_load.so hangs_at_load.c */
#include <unistd.h>
__attribute__((constructor)) static void hang(void) {
    while (access(RELEASE, F_OK) != 0) usleep(5000);
}
