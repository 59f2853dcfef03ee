/*
 * Programs that test servers, run with next to no rights. The child is made by vfork, which copies nothing: fork would
 * copy the page tables of the engine's memory. Until execve it shares our memory, so it calls the system and nothing else;
 * identities are set by plain system calls, because those of the C library would change all threads of this process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"

#define MOST_STRINGS 8
/* Read at one look from a program that writes and writes. */
#define DRAIN_BYTES (64 * 1024)
#define LAST_SIGNAL 64
/* Of a list of processes: those behind it are found at the next look. */
#define LIST_BYTES (32 * 1024)

/* Everything that the child needs, made before it exists. */
struct start {
  char *argv[MOST_STRINGS + 1];
  int null_fd;
  int output_fd;
  int32_t uid;
  int32_t gid;
};

/* To nobody, as far as this process may; then without capabilities, for good (capabilities(7), PR_SET_NO_NEW_PRIVS). */
static int drop_rights(const struct start *start) {
  /* Where a user namespace has no other identities, or has no rights to change them, what remains is the rest. */
  syscall(SYS_setgroups, 0, NULL);
  if (start->gid >= 0) syscall(SYS_setresgid, start->gid, start->gid, start->gid);
  if (start->uid >= 0) syscall(SYS_setresuid, start->uid, start->uid, start->uid);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[2] = {0};
  if (syscall(SYS_capset, &header, none) < 0) return -errno;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
  return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? -errno : 0;
}

/* In the child. Returns only when it fails. */
static int become(const struct start *start) {
  static char *const no_environment[] = {NULL};
  if (setsid() < 0 || chdir("/") < 0) return -errno;
  if (dup2(start->null_fd, 0) < 0 || dup2(start->output_fd, 1) < 0 || dup2(start->null_fd, 2) < 0) return -errno;
  if (syscall(SYS_close_range, 3u, ~0u, 0u) < 0) {
    for (int fd = 3; fd < 65536; fd++) close(fd);
  }
  umask(077);
  const int dropped = drop_rights(start);
  if (dropped < 0) return dropped;
  const struct sigaction usual = {.sa_handler = SIG_DFL};
  for (int number = 1; number <= LAST_SIGNAL; number++) sigaction(number, &usual, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execve(start->argv[0], start->argv, no_environment);
  return -errno;
}

/* No signal may run a handler of ours in the child. */
static int start_child(const struct start *start, pid_t *child) {
  sigset_t all;
  sigset_t before;
  volatile int error = 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = vfork();
  if (pid == 0) {
    error = become(start);
    _exit(127);
  }
  if (pid < 0) error = -errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (pid > 0 && error != 0) waitpid(pid, NULL, 0);
  *child = pid;
  return error;
}

int ilb_run_start(struct ilb_run *run, const uint8_t *strings, uint32_t count, int32_t uid, int32_t gid) {
  if (count < 1 || count > MOST_STRINGS) return -EINVAL;
  /* Descendants of a test that lose their parent become our children, so that end_strays() finds them. */
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return -errno;
  struct start start = {.uid = uid, .gid = gid};
  const char *at = (const char *)strings;
  for (uint32_t i = 0; i < count; i++, at += strlen(at) + 1) start.argv[i] = (char *)(uintptr_t)at;
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) < 0) return -errno;
  start.output_fd = pipe_fds[1];
  start.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  int error = start.null_fd < 0 ? -errno : 0;
  pid_t pid = 0;
  if (error == 0) {
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    error = start_child(&start, &pid);
    close(start.null_fd);
  }
  close(pipe_fds[1]);
  if (error != 0) {
    close(pipe_fds[0]);
    return error;
  }
  *run = (struct ilb_run){.state = ILB_RUN_ACTIVE, .pid = pid, .output_fd = pipe_fds[0]};
  return 0;
}

/* The first piece is kept; the rest is read so that nobody is stuck in writing it, but no more than so much at a time. */
static void take_output(struct ilb_run *run) {
  if (run->output_fd < 0) return;
  uint8_t waste[4096];
  for (int taken = 0; taken < DRAIN_BYTES;) {
    const bool is_first = run->length == 0;
    const ssize_t bytes = is_first ? read(run->output_fd, run->output, ILB_RUN_OUTPUT)
                                   : read(run->output_fd, waste, sizeof waste);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes == 0) {
      close(run->output_fd);
      run->output_fd = -1;
    }
    if (bytes <= 0) return;
    if (is_first) run->length = (uint32_t)bytes;
    taken += (int)bytes;
  }
}

/* Only while its leader is not collected: until then its number is nobody else's. */
static void end_group(struct ilb_run *run) {
  kill(-run->pid, SIGKILL);
  if (run->output_fd >= 0) close(run->output_fd);
  run->output_fd = -1;
}

static void look_at(struct ilb_run *run) {
  siginfo_t end = {0};
  const bool is_gone = waitid(P_PID, (id_t)run->pid, &end, WEXITED | WNOHANG | WNOWAIT) < 0;
  take_output(run);
  if (!is_gone && end.si_pid == 0) return;
  run->state = ILB_RUN_ENDED;
  run->status = is_gone ? 128 : end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status;
  end_group(run);
}

/* Collects the leader, and children of it that have become ours. */
static void collect(struct ilb_run *run) {
  for (;;) {
    const pid_t pid = waitpid(-run->pid, NULL, WNOHANG);
    if (pid > 0 || (pid < 0 && errno == EINTR)) continue;
    if (pid < 0) run->state = ILB_RUN_FREE;
    return;
  }
}

/* ---- Descendants that have left their test -------------------------------------------------------------------------- */

/* Bytes read; the text ends with a zero byte. 0: there is nothing to read, or no such file. */
static size_t read_text(const char *path, char *out, size_t room) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  size_t length = 0;
  for (ssize_t bytes; length < room - 1 && (bytes = read(fd, out + length, room - 1 - length)) > 0;) length += (size_t)bytes;
  close(fd);
  out[length] = 0;
  return length;
}

/* Tests cannot get rid of no-new-privileges; other children of this process do not have it. */
static bool is_marked(pid_t pid) {
  char path[64];
  char status[4096];
  snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  return read_text(path, status, sizeof status) > 0 && strstr(status, "\nNoNewPrivs:\t1") != NULL;
}

/* Whether the process is the leader of a test, or in the session of one that still runs. */
static bool belongs_to_a_run(const struct ilb_run *runs, uint32_t count, pid_t pid, pid_t session) {
  for (uint32_t i = 0; i < count; i++) {
    if (runs[i].state != ILB_RUN_FREE && runs[i].pid == pid) return true;
    if (runs[i].state == ILB_RUN_ACTIVE && runs[i].pid == session) return true;
  }
  return false;
}

/*
 * Kills who has left the session of its test and lost its parent, and who is left of a test that has ended; their own
 * children come to us in turn. Needs CONFIG_PROC_CHILDREN; without it the process group is all that is killed. Returns how
 * many there were.
 */
static int end_strays(const struct ilb_run *runs, uint32_t count) {
  static char list[LIST_BYTES];
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
  const pid_t own_session = getsid(0);
  int strays = 0;
  if (read_text(path, list, sizeof list) == 0) return 0;
  char *next = list;
  for (pid_t pid; (pid = (pid_t)strtol(next, &next, 10)) > 0;) {
    const pid_t session = getsid(pid);
    if (session < 0 || session == own_session || belongs_to_a_run(runs, count, pid, session) || !is_marked(pid)) continue;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, WNOHANG);
    strays++;
  }
  return strays;
}

int ilb_run_poll(struct ilb_run *runs, uint32_t count) {
  static bool had_runs = false;
  int taken = 0;
  for (uint32_t i = 0; i < count; i++) {
    /* A run may come and go between two looks and still leave descendants. */
    if (runs[i].state != ILB_RUN_FREE) had_runs = true;
    if (runs[i].state == ILB_RUN_ACTIVE) look_at(&runs[i]);
    if (runs[i].state == ILB_RUN_LEAVING) collect(&runs[i]);
    if (runs[i].state != ILB_RUN_FREE) taken++;
  }
  if (taken > 0 || had_runs) taken += end_strays(runs, count);
  had_runs = taken > 0;
  return taken;
}

int ilb_run_release(struct ilb_run *run) {
  if (run->state == ILB_RUN_ACTIVE) end_group(run);
  if (run->state != ILB_RUN_FREE) run->state = ILB_RUN_LEAVING;
  return 0;
}
