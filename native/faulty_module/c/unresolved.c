/* A library that dlopen(RTLD_NOW) refuses, for a symbol nobody has: gcc -shared -fPIC -o unresolved.so unresolved.c
   (With RTLD_LAZY it opens, and the process ends with status 127 when the function is called.) */
extern unsigned long faulty_symbol_that_nobody_defines(void **list);
unsigned long C_GetFunctionList(void **list) { return faulty_symbol_that_nobody_defines(list); }
