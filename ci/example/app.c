/* The program that is measured: ready after some work. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define WORK_MS 1

int main(void)
{
    struct timespec work = { WORK_MS / 1000, WORK_MS % 1000 * 1000000L };
    nanosleep(&work, NULL);
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
