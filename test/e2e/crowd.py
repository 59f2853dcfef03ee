"""Many TCP connections from one process, for the end to end tests: ordinary sockets and epoll, nothing of ours.

serve ID ADDRESS[,ADDRESS...] PORT
    Answers every line with "ID line" and prints "ready". After a line that begins with "bye" it closes first.

hold HOST PORT COUNT SOURCE[,SOURCE...]
    Opens COUNT connections from the sources in turn and keeps them. Obeys lines of standard input, and answers each
    with one line of JSON: {"answered": {ID: connections}, "moved": connections that another server answered than the
    first time, "failures": [text, at most 20]}.
      ask     every connection sends a line and checks what comes back
      close   every connection is closed; the client closes first

churn HOST PORT ROUNDS SOURCE FIRST-PORT PORTS client|server
    Connects ROUNDS times from the same few source ports in turn, exchanges a line, and lets this end or the server's
    end close first. Prints JSON: {"answered": ..., "failures": [...]}.

Both families: an address with a colon is IPv6.
"""
import errno
import json
import resource
import select
import socket
import sys
import time

PATIENCE_S = 90
MOST_FAILURES = 20
CONNECTING_AT_ONCE = 256
IP_BIND_ADDRESS_NO_PORT = 24


def say(*words):
    print(*words, flush=True)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def lift_file_limit():
    """As many sockets as this process may have at all; root may have as many as the kernel lets anybody."""
    with open("/proc/sys/fs/nr_open") as file:
        wanted = min(int(file.read()), 1 << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(identity, addresses, port):
    poll = select.epoll()
    listeners, connections, partial = {}, {}, {}
    for address in addresses.split(","):
        listener = socket.socket(family_of(address))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, int(port)))
        listener.listen(4096)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener
        poll.register(listener, select.EPOLLIN)
    say("ready")
    prefix = identity.encode() + b" "

    def end(number):
        partial.pop(number, None)
        connections.pop(number).close()

    while True:
        for number, _ in poll.poll():
            if number in listeners:
                try:
                    while True:
                        connection, _peer = listeners[number].accept()
                        connection.setblocking(False)
                        connections[connection.fileno()] = connection
                        poll.register(connection, select.EPOLLIN)
                except OSError:
                    continue
            try:
                data = connections[number].recv(4096)
            except OSError:
                data = b""
            if not data:
                end(number)
                continue
            *lines, rest = (partial.get(number, b"") + data).split(b"\n")
            partial[number] = rest
            for line in lines:
                connections[number].send(prefix + line + b"\n")
                if line.startswith(b"bye"):
                    end(number)
                    break


class Report:
    def __init__(self):
        self.answered, self.moved, self.failures, self.failed = {}, 0, [], 0

    def fail(self, text):
        self.failed += 1
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(text)

    def say(self):
        more = self.failed - len(self.failures)
        failures = self.failures + ([f"and {more} more"] if more > 0 else [])
        say(json.dumps({"answered": self.answered, "moved": self.moved, "failures": failures}))


class Crowd:
    """Connections that are opened once and asked again and again."""

    def __init__(self, host, port, count, sources):
        self.target, self.sources = (host, port), sources
        self.sockets = [None] * count
        self.index_of, self.server_of = {}, {}
        self.poll = select.epoll()

    def open_one(self, index):
        connection = socket.socket(family_of(self.target[0]))
        connection.setblocking(False)
        # The source port is chosen at connect(), where each source address has a whole range of them.
        connection.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((self.sources[index % len(self.sources)], 0))
        self.sockets[index] = connection
        self.index_of[connection.fileno()] = index
        state = connection.connect_ex(self.target)
        if state not in (0, errno.EINPROGRESS):
            return errno.errorcode.get(state, str(state))
        self.poll.register(connection, select.EPOLLOUT)
        return None

    def drop(self, index):
        connection = self.sockets[index]
        self.sockets[index] = None
        self.index_of.pop(connection.fileno(), None)
        connection.close()

    def ask(self):
        """Opens what is not open yet, sends a line on every connection and checks the answers."""
        report = Report()
        waiting = iter(range(len(self.sockets)))
        under_way, deadline, is_over = set(), time.monotonic() + PATIENCE_S, False

        def begin():
            nonlocal is_over
            while not is_over and len(under_way) < CONNECTING_AT_ONCE:
                index = next(waiting, None)
                if index is None:
                    is_over = True
                    return
                if self.sockets[index] is None:
                    failure = self.open_one(index)
                    if failure:
                        report.fail(f"connection {index}: {failure}")
                        self.drop(index)
                        continue
                else:
                    self.poll.modify(self.sockets[index], select.EPOLLOUT)
                under_way.add(index)

        def finish(index, failure):
            under_way.discard(index)
            if failure:
                report.fail(f"connection {index}: {failure}")
                self.drop(index)

        begin()
        while under_way:
            events = self.poll.poll(max(0, deadline - time.monotonic()))
            if not events:
                for index in list(under_way):
                    finish(index, f"nothing within {PATIENCE_S} s")
                break
            for number, event in events:
                index = self.index_of.get(number)
                if index is None:
                    continue
                self.step(index, event, report, finish)
            begin()
        report.say()

    def step(self, index, event, report, finish):
        connection = self.sockets[index]
        try:
            if event & select.EPOLLOUT:
                state = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if state:
                    raise OSError(state, errno.errorcode.get(state, str(state)))
                connection.send(b"%d\n" % index)
                self.poll.modify(connection, select.EPOLLIN)
                return
            answer = connection.recv(256)
        except OSError as error:
            finish(index, error.strerror)
            return
        server, _, rest = answer.decode().partition(" ")
        if rest != f"{index}\n":
            finish(index, f"answered {answer!r}")
            return
        if self.server_of.setdefault(index, server) != server:
            report.moved += 1
        report.answered[server] = report.answered.get(server, 0) + 1
        finish(index, None)

    def close(self):
        for index, connection in enumerate(self.sockets):
            if connection is not None:
                self.drop(index)
        Report().say()


def hold(host, port, count, sources):
    crowd = Crowd(host, int(port), int(count), sources.split(","))
    for line in sys.stdin:
        {"ask": crowd.ask, "close": crowd.close}[line.strip()]()


def connect_again(host, port, source, source_port):
    """A connection from that very port. Only this machine's own last one may be in the way, and only for a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        connection = socket.socket(family_of(host))
        connection.settimeout(PATIENCE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            connection.bind((source, source_port))
            connection.connect((host, port))
            return connection
        except OSError as error:
            connection.close()
            is_own = error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE)
            if not is_own or time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def churn(host, port, rounds, source, first_port, ports, closer):
    report = Report()
    for index in range(int(rounds)):
        word = b"bye" if closer == "server" else b"line"
        try:
            connection = connect_again(host, int(port), source, int(first_port) + index % int(ports))
            with connection:
                connection.sendall(b"%s %d\n" % (word, index))
                answer = connection.recv(256).decode()
                server, _, rest = answer.partition(" ")
                if rest != f"{word.decode()} {index}\n":
                    report.fail(f"round {index}: answered {answer!r}")
                    continue
                if closer == "client":
                    connection.shutdown(socket.SHUT_WR)
                if connection.recv(1) != b"":
                    report.fail(f"round {index}: more than one answer")
            report.answered[server] = report.answered.get(server, 0) + 1
        except OSError as error:
            report.fail(f"round {index}: {error}")
    report.say()


if __name__ == "__main__":
    lift_file_limit()
    {"serve": serve, "hold": hold, "churn": churn}[sys.argv[1]](*sys.argv[2:])
