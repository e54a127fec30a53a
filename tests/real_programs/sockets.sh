# Two programs, the one a server for the other: TCP, UDP, Unix of three kinds, descriptors passed.
set -eu
cat >server.py <<'P'
import array, os, socket, sys
tcp = socket.create_server(("localhost", 0))
unix = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
unix.bind("socket"); unix.listen()
abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
abstract.bind(f"\0stockade-test-{os.getpid()}")
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); udp.bind(("::1", 0))
print(tcp.getsockname()[1], udp.getsockname()[1], os.getpid(), flush=True)
peer = tcp.accept()[0]; peer.sendall(peer.recv(100)[::-1]); peer.close()
peer = unix.accept()[0]
socket.send_fds(peer, [b"file"], [os.open("passed", os.O_RDONLY)])
data, address = udp.recvfrom(100); udp.sendto(data.upper(), address)
print(abstract.recv(100).decode(), flush=True)
P
cat >client.py <<'P'
import os, socket, sys
tcp, udp, pid = sys.stdin.readline().split()
with socket.create_connection(("localhost", int(tcp))) as peer:
    peer.sendall(b"tcp"); peer.shutdown(socket.SHUT_WR); print(peer.recv(100).decode())
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
    peer.connect("socket")
    data, descriptors, _, _ = socket.recv_fds(peer, 100, 1)
    print(data.decode(), os.read(descriptors[0], 100).decode())
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
    peer.sendto(b"udp", ("::1", int(udp))); print(peer.recv(100).decode())
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
    peer.sendto(b"abstract", f"\0stockade-test-{pid}")
print(sys.stdin.readline().strip())
P
printf contents >passed
mkfifo answers
python3 server.py >answers & python3 client.py <answers
wait
