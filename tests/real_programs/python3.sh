# Processes, TLS to itself, a virtual environment, SQLite.
set -eu
cat >main.py <<'P'
import hashlib, multiprocessing, os, sqlite3, ssl, subprocess, sys, tempfile, threading, zoneinfo
from multiprocessing import shared_memory

def square(n):
    return n * n

def tls():
    subprocess.run("openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 "
                   "-subj /CN=localhost -addext subjectAltName=DNS:localhost".split(),
                   check=True, stderr=subprocess.DEVNULL)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain("cert", "key")
    import socket
    listener = socket.create_server(("localhost", 0))
    def serve():
        with server.wrap_socket(listener.accept()[0], server_side=True) as peer:
            peer.sendall(peer.recv(100).upper())
    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile="cert")
    with socket.create_connection(listener.getsockname()) as plain:
        with client.wrap_socket(plain, server_hostname="localhost") as peer:
            peer.sendall(b"encrypted")
            print(peer.recv(100).decode(), peer.version())
    thread.join()
    print("authorities:", len(ssl.create_default_context().get_ca_certs()) > 0)

if __name__ == "__main__":
    with multiprocessing.Pool(4) as pool:
        print(sum(pool.map(square, range(1000))))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=queue.put, args=("spawned",))
    process.start()
    print(queue.get())
    process.join()
    memory = shared_memory.SharedMemory(create=True, size=100)
    memory.close()
    memory.unlink()
    tls()
    with sqlite3.connect("data.db") as data:
        data.execute("create table t (n integer)")
        data.executemany("insert into t values (?)", [(n,) for n in range(100)])
        print(data.execute("select sum(n) from t").fetchone())
    with tempfile.TemporaryDirectory() as directory:
        open(os.path.join(directory, "x"), "w").close()
    print(hashlib.sha256(b"x").hexdigest()[:8], os.getcwd() == os.path.expanduser("~"))
P
python3 main.py
# Debian has pip's installer in a package of its own.
pip=--without-pip
if python3 -c 'import ensurepip' 2>/dev/null; then pip=; fi
python3 -m venv $pip environment
cat >package.py <<'P'
import sys
print(sys.prefix != sys.base_prefix)
P
environment/bin/python package.py
[ -n "$pip" ] || environment/bin/pip --version | cut -d ' ' -f 1
