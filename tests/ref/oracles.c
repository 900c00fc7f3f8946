/* The oracles' library always has one object, so that it can be linked before any oracle exists. */
extern const char cop_oracles_present;
const char cop_oracles_present = 1;
