"""A TLS handshake in memory: CERT KEY HOST.  The client trusts CERT alone and
expects HOST; says "taken" if it takes it, ends with status 1 if not."""
import ssl
import sys

cert, key, host = sys.argv[1:]

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(cert, key)
client_context = ssl.create_default_context(cafile=cert)
client_context.verify_flags |= ssl.VERIFY_X509_STRICT

to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
server = server_context.wrap_bio(to_server, to_client, server_side=True)


def go_on(side):
    try:
        side.do_handshake()
        return True
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


while not (go_on(client) & go_on(server)):
    pass
print("taken")
