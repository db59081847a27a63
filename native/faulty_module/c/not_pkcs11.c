/* A library that is no PKCS #11 module: gcc -shared -fPIC -o not_pkcs11.so not_pkcs11.c */
int answer(void) { return 42; }
