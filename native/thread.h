/* Threads of the library beside those of the runtime. Not part of the ABI. */
#ifndef ILB_THREAD_H
#define ILB_THREAD_H

#include <pthread.h>
#include <signal.h>

/* Starts a thread that takes no signals: they belong to the runtime's own threads. Returns 0 or -errno. */
static inline int ilb_start_thread(pthread_t *thread, void *(*run)(void *), void *argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(thread, NULL, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return -error;
}

#endif
