"""The independent side of the kernel tests: plain sockets, nothing of ours.

send IFACE          frames in hex from standard input, one a line; answers "sent" to each empty line
sniff IFACE [6]     prints "ready", then every frame that arrives, but IPv6, in hex; with 6 every one of IPv6
tun NAME [6]        creates a TUN, prints "ready", then every IPv4 (IPv6) packet that it is given in hex; takes packets
                    from standard input, one a line in hex, and gives them to the kernel
udp ADDRESS PORT [IFACE]   prints "ready", then each datagram as "SOURCE PORT LENGTH SHA1"; bound to IFACE if given
tcp ADDRESS PORT [IFACE]   accepts connections, prints "ready", then "accepted SOURCE" for each
connect ADDRESS PORT       connects, prints "connected LOCAL-PORT" or the error
"""
import fcntl
import hashlib
import os
import socket
import struct
import sys
import threading


def say(*words):
    print(*words, flush=True)


def send(interface):
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.bind((interface, 0))
    for line in sys.stdin:
        if line.strip():
            out.send(bytes.fromhex(line.strip()))
        else:
            say("sent")


def sniff(interface, family="4"):
    inward = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    inward.bind((interface, 3))
    say("ready")
    while True:
        data, source = inward.recvfrom(1 << 16)
        if source[2] != socket.PACKET_OUTGOING and (source[1] == 0x86DD) == (family == "6"):
            say(data.hex())


def tun(name, family="4"):
    device = os.open("/dev/net/tun", os.O_RDWR)
    iff_tun_no_pi, tunsetiff = 0x1001, 0x400454CA
    fcntl.ioctl(device, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tun_no_pi))

    def write():
        for line in sys.stdin:
            os.write(device, bytes.fromhex(line.strip()))

    threading.Thread(target=write, daemon=True).start()
    say("ready")
    while True:
        packet = os.read(device, 1 << 16)
        if packet[0] >> 4 == int(family):
            say(packet.hex())


def bound(kind, address, port, interface):
    it = socket.socket(socket.AF_INET, kind)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if interface:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    it.bind((address, int(port)))
    return it


def udp(address, port, interface=None):
    it = bound(socket.SOCK_DGRAM, address, port, interface)
    say("ready")
    while True:
        data, source = it.recvfrom(1 << 16)
        say(source[0], source[1], len(data), hashlib.sha1(data).hexdigest())


def tcp(address, port, interface=None):
    it = bound(socket.SOCK_STREAM, address, port, interface)
    it.listen()
    say("ready")
    while True:
        connection, source = it.accept()
        say("accepted", source[0])


def connect(address, port):
    try:
        with socket.create_connection((address, int(port)), timeout=5) as it:
            say("connected", it.getsockname()[1])
    except OSError as error:
        say(error)


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    {"send": send, "sniff": sniff, "tun": tun, "udp": udp, "tcp": tcp, "connect": connect}[verb](*arguments)
