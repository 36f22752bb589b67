"""Fetches and deletes a maildrop: PORT OUT.  Message n goes to OUT/n."""
import poplib
import sys

poplib._MAXLINE = 1 << 20  # its own limit is 2048 octets a line

port, out = int(sys.argv[1]), sys.argv[2]
pop = poplib.POP3("127.0.0.1", port, timeout=60)
pop.user("joe")
pop.pass_("secret")
count, total = pop.stat()
received = 0
for n in range(1, count + 1):
    _, lines, octets = pop.retr(n)
    received += octets
    with open("%s/%d" % (out, n), "wb") as file:
        file.write(b"".join(line + b"\r\n" for line in lines))
    pop.dele(n)
if received != total:
    sys.exit("STAT says %d octets, received %d" % (total, received))
pop.quit()
