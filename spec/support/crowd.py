"""A crowd of clients in one process: PORT ROOT TEMPLATE FAST IDLE SLOW.

Each has a Maildir of its own, ROOT/NAME, of links to TEMPLATE's files.  FAST
clients fetch everything; IDLE ones ask for everything many times over and read
nothing until all others have finished (every other one never does, and leaves);
SLOW ones send an octet a second.  Everything that comes is compared with the
template's files.  At the end there is a line of figures: key=value.
"""
import os
import resource
import selectors
import socket
import sys
import time

PORT, ROOT, TEMPLATE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
FAST, IDLE, SLOW = (int(n) for n in sys.argv[4:7])
TIMES = 20  # how often an idle client asks for everything
LETTERS = "abcdefghijklmnopqrstuvwxyz"

clock = time.monotonic


def wire(path):
    with open(path, "rb") as file:
        octets = file.read()
    octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if octets and not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    return (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def read_template():
    paths = [os.path.join(TEMPLATE, sub, name) for sub in ("new", "cur") for name in os.listdir(TEMPLATE + "/" + sub)]
    paths.sort(key=os.path.basename)
    return paths, [memoryview(wire(path)) for path in paths]


PATHS, BODIES = read_template()
ALL = [("RETR %d" % (n + 1), body) for n, body in enumerate(BODIES)]


def make_maildir(name):
    for sub in ("new", "cur", "tmp"):
        os.makedirs("%s/%s/%s" % (ROOT, name, sub))
    for path in PATHS:
        os.link(path, "%s/%s/new/%s" % (ROOT, name, os.path.basename(path)))


class Client:
    """Sends `script`, pairs of a command and the body that must follow its
    status line (None: no body), and compares what comes."""

    def __init__(self, name, script, ahead):
        make_maildir(name)
        self.name, self.ahead = name, ahead
        login = [("USER " + name, None), ("PASS x", None)]
        self.script = login + script + [("QUIT", None)]
        # The greeting comes first, without a command.
        self.awaited = [None] + [body for _, body in self.script]
        self.unsent = [(command + "\r\n").encode() for command, _ in self.script]
        self.at, self.body, self.line = 0, None, b""
        self.done = self.failed = None

    def connect(self):
        self.sock = socket.create_connection(("127.0.0.1", PORT))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)

    def send(self):
        """All that is left, or the next command."""
        if not self.unsent:
            return
        octets = b"".join(self.unsent) if self.ahead else self.unsent[0]
        self.unsent = [] if self.ahead else self.unsent[1:]
        if self.sock.send(octets) != len(octets):
            self.fail("the commands are too long for the socket")

    def fail(self, why):
        self.failed = self.failed or "%s: reply %d: %s" % (self.name, self.at, why)
        self.done = clock()

    def replied(self):
        self.at, self.body = self.at + 1, None
        if not self.ahead:
            self.send()

    def take_line(self, data):
        stop = bytes(data).find(b"\n") + 1
        self.line += data[: stop or len(data)]
        if stop:
            if not self.line.startswith(b"+OK"):
                self.fail(repr(self.line))
            self.line, self.body = b"", self.awaited[self.at]
            if self.body is None:
                self.replied()
        return stop or len(data)

    def take_body(self, data):
        n = min(len(data), len(self.body))
        if data[:n] != self.body[:n]:
            self.fail("wrong octets")
        self.body = self.body[n:]
        if not len(self.body):
            self.replied()
        return n

    def readable(self):
        try:
            data = memoryview(self.sock.recv(262144))
        except BlockingIOError:
            return
        except OSError as error:
            return self.fail(error)
        if not len(data):
            if self.at < len(self.awaited):
                self.fail("the server closed")
            self.done = clock()
        while len(data) and not self.done:
            if self.at == len(self.awaited):
                return self.fail("more than was asked for")
            data = data[(self.take_line if self.body is None else self.take_body)(data):]


class SlowClient(Client):
    """Sends an octet a second."""

    def __init__(self, name):
        super().__init__(name, ALL[:1], True)
        self.octets = b"".join(self.unsent)
        self.sent = 0

    def send(self):
        pass

    def tick(self):
        if self.sent < len(self.octets):
            self.sock.send(self.octets[self.sent:self.sent + 1])
            self.sent += 1


class Crowd:
    def __init__(self):
        self.selector = selectors.DefaultSelector()

    def watch(self, clients):
        for client in clients:
            self.selector.register(client.sock, selectors.EVENT_READ, client)

    def turn(self, timeout):
        for key, _ in self.selector.select(timeout):
            key.data.readable()
            if key.data.done:
                self.leave(key.data)

    def leave(self, client):
        self.selector.unregister(client.sock)
        client.sock.close()


def left(clients):
    return sum(1 for client in clients if not client.done)


def run():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    fast = [Client("fast%d" % n, ALL, n % 2 == 0) for n in range(FAST)]
    idle = [Client("idle%d" % n, ALL * TIMES, True) for n in range(IDLE)]
    slow = [SlowClient(LETTERS[n // 26] + LETTERS[n % 26]) for n in range(SLOW)]
    for client in idle + slow + fast:
        client.connect()
    crowd, start = Crowd(), clock()
    crowd.watch(fast + slow)
    for client in idle + fast:
        client.send()
    due, slow_at_fast_end, fast_seconds = start, None, 0
    while left(fast + slow):
        if clock() >= due:
            due += 1
            for client in slow:
                if not client.done:
                    client.tick()
        crowd.turn(max(0, due - clock()))
        if slow_at_fast_end is None and not left(fast):
            slow_at_fast_end, fast_seconds = SLOW - left(slow), clock() - start
    waiting = left(idle)
    for client in idle[1::2]:
        client.sock.close()
    readers = idle[::2]
    crowd.watch(readers)
    while left(readers):
        crowd.turn(60)
    failed = [client.failed for client in fast + slow + idle if client.failed]
    print("failed=%d fast_seconds=%.2f seconds=%.2f slow_done_before_fast=%s idle_waiting=%d octets=%d" % (
        len(failed), fast_seconds, clock() - start, slow_at_fast_end, waiting,
        (FAST + len(readers) * TIMES) * sum(len(body) for body in BODIES)))
    for line in failed[:20]:
        print(line)


run()
