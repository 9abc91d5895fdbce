/* Writes /proc/kallsyms, up to the symbol that is given, to the debug console at port E9h, which takes no time. */

#include <stdio.h>
#include <string.h>
#include <sys/io.h>

enum { PORT = 0xe9 };

int main(int argc, char **argv) {
  FILE *list = fopen("/proc/kallsyms", "r");
  if (argc != 2 || !list || ioperm(PORT, 1, 1) != 0) return 1;
  char line[512], name[256];
  while (fgets(line, sizeof line, list)) {
    outsb(PORT, line, strlen(line));
    if (sscanf(line, "%*s %*s %255s", name) == 1 && strcmp(name, argv[1]) == 0) return 0;
  }
  return 1;
}
