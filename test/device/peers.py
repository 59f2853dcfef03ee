"""The other side of the packet tests: raw frames in and out, and TCP streams, with nothing of ours in between.

send IFACE [MARK]           frames in hex from standard input, one a line; prints "sent N" at the end of input
sniff IFACE COUNT           prints "ready", then COUNT received IPv4 frames in hex
sniff-offload IFACE COUNT   the same, virtio-net header (10 bytes) in front
sink ADDRESS PORT           accepts one TCP connection, prints "ready", then bytes and SHA-256 of what came
source ADDRESS PORT BYTES   sends BYTES pseudo-random bytes over TCP, prints their SHA-256
reflect SOURCE ADDRESS PORT BYTES   connects from SOURCE, sends BYTES and reads as many; prints both SHA-256
"""
import hashlib
import random
import socket
import sys
import threading

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, SO_MARK = 263, 15, 23, 36
ETH_P_IP = 0x0800


def say(*words):
    print(*words, flush=True)


def send(interface, mark="0"):
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if int(mark):
        out.setsockopt(socket.SOL_SOCKET, SO_MARK, int(mark))
    out.bind((interface, 0))
    count = 0
    for line in sys.stdin:
        out.send(bytes.fromhex(line.strip()))
        count += 1
    say("sent", count)


def sniff(interface, count, offload=False):
    inward = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    inward.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    inward.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    if offload:
        inward.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    inward.bind((interface, ETH_P_IP))
    say("ready")
    for _ in range(int(count)):
        say(inward.recv(1 << 17).hex())


def pattern(count):
    return random.Random(7).randbytes(count)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def receive_all(connection, count=None):
    parts, have = [], 0
    while count is None or have < count:
        part = connection.recv(1 << 20)
        if not part:
            break
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def sink(address, port):
    listener = socket.create_server((address, int(port)), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    say("ready")
    connection, _ = listener.accept()
    data = receive_all(connection)
    say(len(data), sha256(data))


def source(address, port, count):
    data = pattern(int(count))
    with socket.create_connection((address, int(port)), timeout=20) as connection:
        connection.sendall(data)
    say(sha256(data))


def reflect(local, address, port, count):
    data = pattern(int(count))
    connection = socket.create_connection((address, int(port)), timeout=20, source_address=(local, 0))
    writer = threading.Thread(target=connection.sendall, args=(data,))
    writer.start()
    back = receive_all(connection, len(data))
    writer.join()
    say(sha256(data), sha256(back))


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "sniff-offload":
        sniff(*arguments, offload=True)
    else:
        {"send": send, "sniff": sniff, "sink": sink, "source": source, "reflect": reflect}[verb](*arguments)
