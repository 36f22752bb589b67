"""Runs a command on a terminal of its own: ANSWERS COMMAND...  ANSWERS are
separated by commas; each is typed with Enter behind the next prompt, which ends
in ": "; ^C is typed as such.  Prints what the terminal showed, then whether
its echo is on, and how the command ended."""
import os
import pty
import sys
import termios

answers = sys.argv[1].split(",")
keeper, terminal = pty.openpty()
pid = os.fork()
if pid == 0:
    os.setsid()
    for fd in (0, 1, 2):
        os.dup2(terminal, fd)
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # now it controls the session
    os.close(keeper)
    os.execvp(sys.argv[2], sys.argv[2:])

shown = b""


def read_until(end):
    global shown
    before = len(shown)
    while end not in shown[before:]:
        piece = os.read(keeper, 1024)
        shown += piece
        if not piece:
            break


for answer in answers:
    read_until(b": ")
    os.write(keeper, b"\x03" if answer == "^C" else answer.encode() + b"\n")
_, status = os.waitpid(pid, 0)
echo = termios.tcgetattr(terminal)[3] & termios.ECHO
os.close(terminal)
try:
    while True:  # what was shown may still be on its way here; behind it is an error
        shown += os.read(keeper, 65536)
except OSError:
    pass
sys.stdout.write(shown.decode().replace("\r\n", "\n"))
print("--")
print("echo", "on" if echo else "off")
if os.WIFSIGNALED(status):
    print("signal", os.WTERMSIG(status))
else:
    print("status", os.WEXITSTATUS(status))
