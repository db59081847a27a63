/* A PKCS #11 library of which only the front door is there: every function of its lists answers 0x30. What it offers is
   said where it is built (-D): CLASSIC, the version of the list that C_GetFunctionList gives, `2, 40`, and ANSWER, what
   that answers; OFFERS, the entries of C_GetInterfaceList, LISTED, what that answers, and COUNT, how many it says there
   are; GOT, what C_GetInterface answers. */
typedef unsigned long ulong;
struct list {
    unsigned char major, minor;
    ulong (*functions[104])(void);
};
struct interface {
    const char *name;
    struct list *list;
    ulong flags;
};

static ulong function(void) { return 0x30; }

/* As many functions as 3.2 has, whatever the version: what is not copied is not there. */
#define FUNCTIONS {[0 ... 103] = function}
#ifndef ANSWER
#define ANSWER 0
#endif
#ifndef LISTED
#define LISTED 0
#endif
#ifndef GOT
#define GOT 0
#endif

#ifdef CLASSIC
static struct list classic = {CLASSIC, FUNCTIONS};
ulong C_GetFunctionList(struct list **list) {
    *list = &classic;
    return ANSWER;
}
#endif

#ifdef OFFERS
static struct list v1_0 = {1, 0, FUNCTIONS}, v2_40 = {2, 40, FUNCTIONS}, v3_0 = {3, 0, FUNCTIONS},
                   v3_1 = {3, 1, FUNCTIONS}, v3_2 = {3, 2, FUNCTIONS}, v3_3 = {3, 3, FUNCTIONS};
static struct interface offered[] = {OFFERS};
#ifndef COUNT
#define COUNT (sizeof offered / sizeof *offered)
#endif
ulong C_GetInterfaceList(struct interface *interfaces, ulong *count) {
    for (ulong i = 0; i < sizeof offered / sizeof *offered && i < *count; i++) interfaces[i] = offered[i];
    *count = COUNT;
    return LISTED;
}

/* The first of the version, or of all. */
ulong C_GetInterface(const char *name, const unsigned char *version, struct interface **interface, ulong flags) {
    for (ulong i = 0; i < sizeof offered / sizeof *offered; i++) {
        struct list *list = offered[i].list;
        if (list && (!version || (version[0] == list->major && version[1] == list->minor))) {
            *interface = &offered[i];
            return GOT;
        }
    }
    return 7;
}
#endif
