/* The limit: the same library in a loop, with as many threads as sessions and nothing between.
 *
 *   limit LIBRARY LABEL PIN           then one line a measurement:
 *   CASE THREADS MILLISECONDS SIZE    answers "OPERATIONS NANOSECONDS TENTH"; SIZE is of what is hashed or encrypted, in bytes,
 *                                     TENTH the nanoseconds that a tenth of the operations of one thread do not exceed
 *   processors 2 MILLISECONDS 0       answers "ONE TWO ROUND STOPS LOST": work of one thread, of two, nanoseconds of a futex round
 *                                     trip, how often a thread that reads the clock stood for a microsecond or more, and for how long
 *   objects 1 0 COUNT                 has so many data objects of the session, for `find`
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CK_PTR *
#define CK_DECLARE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#include "pkcs11.h"

#define SESSIONS 256
#define CHUNK (64 << 10)
#define LARGE (16 << 20)
#define TIMED (1 << 20)

static CK_FUNCTION_LIST_PTR p11;
static CK_SLOT_ID slot;
static CK_SESSION_HANDLE sessions[SESSIONS];
static int opened;
static unsigned char *large;

#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    CK_RV rv_ = (call);                                                                                                \
    if (rv_ != CKR_OK) fprintf(stderr, "limit: %s: 0x%lx\n", #call, rv_), exit(1);                                     \
  } while (0)

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static CK_OBJECT_HANDLE key(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label) {
  CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, (void *)label, strlen(label)}};
  CK_OBJECT_HANDLE found;
  CK_ULONG count;
  OK(p11->C_FindObjectsInit(session, template, 2));
  OK(p11->C_FindObjects(session, &found, 1, &count));
  OK(p11->C_FindObjectsFinal(session));
  if (count != 1) fprintf(stderr, "limit: no key %s\n", label), exit(1);
  return found;
}

struct worker {
  CK_SESSION_HANDLE session;
  const char *what;
  long long until;
  CK_ULONG size;
  long operations;
  long long last;
  unsigned *took;
};

/* Whether there is time for one more; how long the last one took is noted where somebody wants to know. */
static int goes_on(struct worker *w) {
  long long time = now();
  if (w->took && w->operations && w->operations <= TIMED) w->took[w->operations - 1] = time - w->last;
  w->last = time;
  return time < w->until;
}

static void sign(struct worker *w, CK_MECHANISM_TYPE type, CK_OBJECT_CLASS class, const char *label) {
  CK_MECHANISM mechanism = {type, NULL, 0};
  CK_OBJECT_HANDLE k = key(w->session, class, label);
  unsigned char data[32] = {7}, out[512];
  while (goes_on(w)) {
    CK_ULONG length = sizeof out;
    OK(p11->C_SignInit(w->session, &mechanism, k));
    OK(p11->C_Sign(w->session, data, sizeof data, out, &length));
    w->operations++;
  }
}

/* Reads of each object what Cryptoki.find reads; that one has no such attribute is an answer, too. */
static void find(struct worker *w) {
  CK_OBJECT_CLASS class = CKO_DATA;
  CK_ATTRIBUTE template = {CKA_CLASS, &class, sizeof class};
  static const CK_ATTRIBUTE_TYPE types[] = {
      CKA_CLASS,     CKA_KEY_TYPE, CKA_LABEL, CKA_ID,       CKA_UNIQUE_ID, CKA_TOKEN,         CKA_MODULUS,         CKA_PUBLIC_EXPONENT,
      CKA_EC_PARAMS, CKA_EC_POINT, CKA_PRIME, CKA_SUBPRIME, CKA_BASE,      CKA_PARAMETER_SET, CKA_PUBLIC_KEY_INFO, CKA_CHECK_VALUE};
  enum { TYPES = sizeof types / sizeof types[0] };
  do {
    CK_OBJECT_HANDLE found[256];
    CK_ULONG count;
    OK(p11->C_FindObjectsInit(w->session, &template, 1));
    do {
      OK(p11->C_FindObjects(w->session, found, 256, &count));
      for (CK_ULONG n = 0; n < count; n++) {
        unsigned char values[TYPES][512];
        CK_ATTRIBUTE read[TYPES];
        for (int a = 0; a < TYPES; a++) read[a] = (CK_ATTRIBUTE){types[a], values[a], sizeof values[a]};
        CK_RV rv = p11->C_GetAttributeValue(w->session, found[n], read, TYPES);
        if (rv != CKR_ATTRIBUTE_TYPE_INVALID) OK(rv);
        w->operations++;
      }
    } while (count);
    OK(p11->C_FindObjectsFinal(w->session));
  } while (goes_on(w));
}

static void objects(long wanted) {
  static long made;
  CK_OBJECT_CLASS class = CKO_DATA;
  CK_BBOOL no = CK_FALSE;
  for (; made < wanted; made++) {
    char label[32];
    snprintf(label, sizeof label, "object %ld", made);
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class},
                               {CKA_TOKEN, &no, sizeof no},
                               {CKA_PRIVATE, &no, sizeof no},
                               {CKA_LABEL, label, strlen(label)},
                               {CKA_VALUE, label, strlen(label)}};
    CK_OBJECT_HANDLE object;
    OK(p11->C_CreateObject(sessions[0], template, 5, &object));
  }
}

static void gcm(struct worker *w) {
  unsigned char iv[12] = {1};
  CK_GCM_PARAMS parameters = {iv, sizeof iv, 96, NULL, 0, 128};
  CK_MECHANISM mechanism = {CKM_AES_GCM, &parameters, sizeof parameters};
  CK_OBJECT_HANDLE k = key(w->session, CKO_SECRET_KEY, "bench aes");
  unsigned char *out = malloc(w->size + 64);
  while (goes_on(w)) {
    CK_ULONG length = w->size + 64;
    OK(p11->C_EncryptInit(w->session, &mechanism, k));
    OK(p11->C_Encrypt(w->session, large, w->size, out, &length));
    w->operations++;
  }
  free(out);
}

/* A stream of SIZE bytes, however long that takes. */
static void cbc(struct worker *w) {
  unsigned char iv[16] = {1};
  CK_MECHANISM mechanism = {CKM_AES_CBC_PAD, iv, sizeof iv};
  CK_OBJECT_HANDLE k = key(w->session, CKO_SECRET_KEY, "bench aes");
  unsigned char *out = malloc(CHUNK + 64);
  CK_ULONG length = CHUNK + 64;
  OK(p11->C_EncryptInit(w->session, &mechanism, k));
  for (CK_ULONG n = 0; n < w->size / CHUNK; n++) {
    length = CHUNK + 64;
    OK(p11->C_EncryptUpdate(w->session, large, CHUNK, out, &length));
    w->operations++;
  }
  length = CHUNK + 64;
  OK(p11->C_EncryptFinal(w->session, out, &length));
  free(out);
}

static void digest(struct worker *w) {
  CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
  unsigned char out[32];
  while (goes_on(w)) {
    CK_ULONG length = sizeof out;
    OK(p11->C_DigestInit(w->session, &mechanism));
    OK(p11->C_Digest(w->session, large, w->size, out, &length));
    w->operations++;
  }
}

static void random_bytes(struct worker *w) {
  unsigned char out[32];
  while (goes_on(w)) {
    OK(p11->C_GenerateRandom(w->session, out, sizeof out));
    w->operations++;
  }
}

static void *work(void *argument) {
  struct worker *w = argument;
  if (!strcmp(w->what, "ecdsa")) sign(w, CKM_ECDSA, CKO_PRIVATE_KEY, "bench ec");
  else if (!strcmp(w->what, "rsa")) sign(w, CKM_SHA256_RSA_PKCS, CKO_PRIVATE_KEY, "bench rsa");
  else if (!strcmp(w->what, "hmac")) sign(w, CKM_SHA256_HMAC, CKO_SECRET_KEY, "bench hmac");
  else if (!strcmp(w->what, "random")) random_bytes(w);
  else if (!strcmp(w->what, "find")) find(w);
  else if (!strcmp(w->what, "gcm")) gcm(w);
  else if (!strcmp(w->what, "cbc")) cbc(w);
  else if (!strcmp(w->what, "sha256")) digest(w);
  else fprintf(stderr, "limit: no case %s\n", w->what), exit(2);
  return NULL;
}

static int shorter(const void *one, const void *other) {
  unsigned a = *(const unsigned *)one, b = *(const unsigned *)other;
  return (a > b) - (a < b);
}

static unsigned tenth(struct worker *w) {
  long count = w->operations < TIMED ? w->operations : TIMED;
  if (count) qsort(w->took, count, sizeof *w->took, shorter);
  return count ? w->took[count / 10] : 0;
}

static long long measure(const char *what, int threads, long milliseconds, CK_ULONG size, long *operations, unsigned *least) {
  static struct worker workers[SESSIONS];
  static unsigned took[TIMED];
  pthread_t ids[SESSIONS];
  for (; opened < threads; opened++)
    OK(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &sessions[opened]));
  long long begun = now();
  for (int n = 0; n < threads; n++) {
    workers[n] = (struct worker){sessions[n], what, begun + milliseconds * 1000000LL, size, 0, 0, n ? NULL : took};
    pthread_create(&ids[n], NULL, work, &workers[n]);
  }
  *operations = 0;
  for (int n = 0; n < threads; n++) pthread_join(ids[n], NULL), *operations += workers[n].operations;
  long long taken = now() - begun;
  *least = tenth(&workers[0]);
  return taken;
}

static int turn;
static long long until;

static void *ping(void *argument) {
  int mine = argument != NULL;
  long rounds = 0;
  while (now() < until) {
    int other = !mine;
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != mine) {
      struct timespec limit = {0, 10000000};
      syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, other, &limit, NULL, 0);
      if (now() >= until) return (void *)rounds;
    }
    __atomic_store_n(&turn, other, __ATOMIC_RELEASE);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    rounds++;
  }
  return (void *)rounds;
}

static void *count(void *argument) {
  (void)argument;
  long rounds = 0;
  volatile unsigned x = 1;
  while (now() < until)
    for (int n = 0; n < 1000; n++) x = x * 3 + 1, rounds++;
  return (void *)rounds;
}

static void processors(long milliseconds) {
  pthread_t a, b;
  void *one, *two, *other;
  until = now() + milliseconds * 1000000LL;
  one = count(NULL);
  until = now() + milliseconds * 1000000LL;
  pthread_create(&a, NULL, count, NULL), two = count(NULL), pthread_join(a, &other);
  long both = (long)two + (long)other;
  until = now() + milliseconds * 1000000LL;
  pthread_create(&b, NULL, ping, &turn);
  long rounds = (long)ping(NULL);
  pthread_join(b, &other);
  long stops = 0;
  long long lost = 0, last = now();
  until = last + milliseconds * 1000000LL;
  for (long long time = last; time < until; last = time)
    if ((time = now()) - last >= 1000) stops++, lost += time - last;
  printf("%ld %ld %lld %ld %lld\n", (long)one, both, milliseconds * 1000000LL / (rounds ? rounds : 1), stops, lost);
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "limit LIBRARY LABEL PIN\n"), 2;
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library) return fprintf(stderr, "limit: %s\n", dlerror()), 1;
  CK_C_GetFunctionList get = (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList");
  if (!get) return fprintf(stderr, "limit: no PKCS #11\n"), 1;
  OK(get(&p11));
  CK_C_INITIALIZE_ARGS arguments = {.flags = CKF_OS_LOCKING_OK};
  OK(p11->C_Initialize(&arguments));
  CK_SLOT_ID slots[64];
  CK_ULONG found = 64;
  OK(p11->C_GetSlotList(CK_TRUE, slots, &found));
  for (CK_ULONG n = 0; n < found; n++) {
    CK_TOKEN_INFO info;
    OK(p11->C_GetTokenInfo(slots[n], &info));
    if (!strncmp((char *)info.label, argv[2], strlen(argv[2]))) slot = slots[n];
  }
  OK(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &sessions[opened++]));
  OK(p11->C_Login(sessions[0], CKU_USER, (CK_UTF8CHAR_PTR)argv[3], strlen(argv[3])));
  large = calloc(1, LARGE);
  setvbuf(stdout, NULL, _IOLBF, 0);
  char what[32];
  int threads;
  long milliseconds;
  long size;
  while (scanf("%31s %d %ld %ld", what, &threads, &milliseconds, &size) == 4) {
    if (size < 0 || (size > LARGE && !strcmp(what, "sha256"))) return fprintf(stderr, "limit: at most %d bytes\n", LARGE), 2;
    if (threads < 1 || threads > SESSIONS) return fprintf(stderr, "limit: 1 to %d threads\n", SESSIONS), 2;
    if (!strcmp(what, "processors")) {
      processors(milliseconds);
      continue;
    }
    long operations = 0;
    unsigned least = 0;
    long long taken = now();
    if (!strcmp(what, "objects")) objects(size), taken = now() - taken;
    else taken = measure(what, threads, milliseconds, size, &operations, &least);
    printf("%ld %lld %u\n", operations, taken, least);
  }
  return 0;
}
