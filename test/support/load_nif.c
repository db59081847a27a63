// Loads a NIF library as a VM does, without one: load_nif LIBRARY VERSION.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

// The start of ErlNifEntry of erl_nif.h, the same since OTP 17.
struct entry {
  int major, minor;
  const char *name;
  int functions;
};

static int fail(const char *what, const char *why) {
  fprintf(stderr, "load_nif: %s: %s\n", what, why);
  return 1;
}

int main(int count, char **arguments) {
  if (count != 3) return fail("arguments", "LIBRARY VERSION");
  void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail(arguments[1], dlerror());
  struct entry *(*init)(void) = (struct entry * (*)(void)) dlsym(library, "nif_init");
  const char **version = dlsym(library, "CRYPTOKI_NIF_VERSION");
  if (!init || !version) return fail(arguments[1], dlerror());
  const char *said = strchr(*version, '=') + 1;
  if (strcmp(said, arguments[2])) return fail("another version", said);
  struct entry *entry = init();
  if (!entry || strcmp(entry->name, "Elixir.Cryptoki.Native")) return fail("nif_init", "no entry of Cryptoki.Native");
  printf("%s: version %s, %d functions for NIF %d.%d\n", entry->name, said, entry->functions, entry->major, entry->minor);
  return 0;
}
