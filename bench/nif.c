/* For comparison only: what people write first. A NIF that calls C_SignInit and C_Sign, on its scheduler or on a dirty
 * one, with a few sessions and a lock. No deadline, no recovery, no protection of the VM; a library that hangs takes a
 * scheduler along. */
#include <dlfcn.h>
#include <erl_nif.h>
#include <string.h>

#define CK_PTR *
#define CK_DECLARE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#include "pkcs11.h"

#define SESSIONS 16

static CK_FUNCTION_LIST_PTR p11;
static CK_SESSION_HANDLE sessions[SESSIONS];
static CK_OBJECT_HANDLE key;
static int count, free_count;
static ErlNifMutex *lock;
static ErlNifCond *given_back;

/* open(Library, Label, Pin, KeyLabel, Sessions): in the library that the VM has loaded and initialised already. */
static ERL_NIF_TERM open_sessions(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
  char text[4][256];
  for (int n = 0; n < 4; n++)
    if (enif_get_string(env, argv[n], text[n], sizeof text[n], ERL_NIF_LATIN1) <= 0) return enif_make_badarg(env);
  if (!enif_get_int(env, argv[4], &count) || count < 1 || count > SESSIONS) return enif_make_badarg(env);
  void *library = dlopen(text[0], RTLD_NOW);
  CK_C_GetFunctionList get = library ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
  if (!get || get(&p11) != CKR_OK) return enif_make_badarg(env);
  CK_SLOT_ID slots[64], slot = 0;
  CK_ULONG found = 64;
  p11->C_GetSlotList(CK_TRUE, slots, &found);
  for (CK_ULONG n = 0; n < found; n++) {
    CK_TOKEN_INFO info;
    if (p11->C_GetTokenInfo(slots[n], &info) == CKR_OK && !strncmp((char *)info.label, text[1], strlen(text[1]))) slot = slots[n];
  }
  for (int n = 0; n < count; n++)
    if (p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &sessions[n]) != CKR_OK) return enif_make_badarg(env);
  p11->C_Login(sessions[0], CKU_USER, (CK_UTF8CHAR_PTR)text[2], strlen(text[2]));
  CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
  CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, text[3], strlen(text[3])}};
  p11->C_FindObjectsInit(sessions[0], template, 2);
  p11->C_FindObjects(sessions[0], &key, 1, &found);
  p11->C_FindObjectsFinal(sessions[0]);
  free_count = count;
  lock = enif_mutex_create("bench");
  given_back = enif_cond_create("bench");
  return enif_make_int(env, (int)found);
}

static ERL_NIF_TERM sign(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
  ErlNifBinary data, out;
  if (!enif_inspect_binary(env, argv[0], &data)) return enif_make_badarg(env);
  enif_mutex_lock(lock);
  while (!free_count) enif_cond_wait(given_back, lock);
  CK_SESSION_HANDLE session = sessions[--free_count];
  enif_mutex_unlock(lock);
  CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
  CK_ULONG length = 512;
  enif_alloc_binary(length, &out);
  CK_RV rv = p11->C_SignInit(session, &mechanism, key);
  if (rv == CKR_OK) rv = p11->C_Sign(session, data.data, data.size, out.data, &length);
  enif_mutex_lock(lock);
  sessions[free_count++] = session;
  enif_cond_signal(given_back);
  enif_mutex_unlock(lock);
  if (rv != CKR_OK) return enif_make_badarg(env);
  enif_realloc_binary(&out, length);
  return enif_make_binary(env, &out);
}

static ErlNifFunc functions[] = {{"open", 5, open_sessions, ERL_NIF_DIRTY_JOB_IO_BOUND},
                                 {"scheduler", 1, sign, 0},
                                 {"dirty", 1, sign, ERL_NIF_DIRTY_JOB_IO_BOUND}};

ERL_NIF_INIT(Elixir.Bench.Nif, functions, NULL, NULL, NULL, NULL)
