"""Logs in and fetches: TRANSPORT PORT WAY (apop or user) PASSWORD CA OUT.  Message n
goes to OUT/n."""
import poplib
import ssl
import sys

transport, port, way, password, ca, out = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if transport == "tls":
    pop = poplib.POP3_SSL("localhost", int(port), context=context, timeout=60)
else:
    pop = poplib.POP3("localhost", int(port), timeout=60)
if transport == "stls":
    pop.stls(context)
if way == "apop":
    pop.apop("joe", password)
else:
    pop.user("joe")
    pop.pass_(password)
count, _ = pop.stat()
for n in range(1, count + 1):
    _, lines, _ = pop.retr(n)
    with open("%s/%d" % (out, n), "wb") as file:
        file.write(b"".join(line + b"\r\n" for line in lines))
pop.quit()
