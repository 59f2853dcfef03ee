"""Packets byte by byte for the end to end tests, made and read with nothing of ours, from inside a namespace.

flood HOST PORT SOURCE[,SOURCE...] FIRST-PORT PORTS
    One UDP datagram from each of PORTS source ports of every source address. Prints {"sent": count}.

answer ID ADDRESS[,ADDRESS...] PORT MTU
    A UDP server that checks each datagram and sends the answer that it asks for, cut into fragments by hand in the
    order asked for. Prints "ready". What asks for nothing is taken in silence.

exchange HOST PORT SOURCE PORT MTU
    The other side: one datagram for each line of JSON on standard input, all sent at once, then waits for the answers.
    What is not answered is sent again after a while: UDP may lose, and nobody holds fragments for long.
      {"number": N, "bytes": length, "order": [fragment indexes to send], "answer": {"bytes": ..., "order": [...]},
       "silent": true when no answer can come}
    Prints {"answered": {number: ID}, "wrong": [text], "missing": [number]}; a doubled answer is wrong unless it was asked
    for again.

probe
    Packets with DF, one kind for each line of JSON on standard input, one kind after the other:
      {"kind": "udp"|"tcp"|"echo", "host", "port", "source", "ttl", "bytes": length of the whole packet, "count"}
    Waits for the first answer to one of them, and when count is above 1 for all that comes until a second passes in
    silence. Prints a list with one element for each line: {"tookMs": time, "answers": [...]}, each answer being
      {"from": address, "kind": "answer"|"error", "type", "code", "sent": hex} and, of errors, {"mtu", "quote": hex,
      "quoteSummed": whether the ICMP checksum holds}.

Both families: an address with a colon is IPv6.
"""
import json
import random
import select
import socket
import struct
import sys
import time

PATIENCE_S = 60
RESEND_S = 2
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
UDP, TCP, ICMP, FRAGMENT, ICMP6 = 17, 6, 1, 44, 58


def say(value):
    print(value if isinstance(value, str) else json.dumps(value), flush=True)


def is_v6(address):
    return ":" in address


def family_of(address):
    return socket.AF_INET6 if is_v6(address) else socket.AF_INET


def packed(address):
    return socket.inet_pton(family_of(address), address)


def internet_sum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(source, destination, protocol, length):
    if is_v6(source):
        return packed(source) + packed(destination) + struct.pack("!II", length, protocol)
    return packed(source) + packed(destination) + struct.pack("!BBH", 0, protocol, length)


def with_sum(source, destination, protocol, data, at):
    total = internet_sum(pseudo_header(source, destination, protocol, len(data)) + data)
    if protocol == UDP and total == 0:
        total = 0xFFFF
    return data[:at] + struct.pack("!H", total) + data[at + 2 :]


def udp_datagram(source, source_port, destination, port, payload):
    header = struct.pack("!HHHH", source_port, port, 8 + len(payload), 0)
    return with_sum(source, destination, UDP, header + payload, 6)


def ip_packet(source, destination, protocol, payload, ttl=64, identification=0, flags=0):
    """@param flags: the 16 bits of flags and fragment offset; IPv4 only."""
    if is_v6(source):
        header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl)
        return header + packed(source) + packed(destination) + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), identification, flags, ttl, protocol, 0)
    header += packed(source) + packed(destination)
    return header[:10] + struct.pack("!H", internet_sum(header)) + header[12:] + payload


def fragments_of(source, destination, datagram, mtu, identification):
    """The fragments of a UDP datagram, as an ordinary sender cuts them."""
    v6 = is_v6(source)
    step = (mtu - (48 if v6 else 20)) & ~7
    packets = []
    for offset in range(0, len(datagram), step):
        part = datagram[offset : offset + step]
        is_last = offset + step >= len(datagram)
        if v6:
            extension = struct.pack("!BBHI", UDP, 0, offset | (0 if is_last else 1), identification)
            packets.append(ip_packet(source, destination, FRAGMENT, extension + part))
        else:
            flags = offset // 8 | (0 if is_last else 0x2000)
            packets.append(ip_packet(source, destination, UDP, part, identification=identification & 0xFFFF, flags=flags))
    return packets


class RawSender:
    """Sends IP packets as they are."""

    def __init__(self, address):
        self.socket = socket.socket(family_of(address), socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        # What the kernel has learnt about the path is not for what is sent on purpose.
        level, option = (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER) if is_v6(address) else (socket.SOL_IP, IP_MTU_DISCOVER)
        self.socket.setsockopt(level, option, PMTUDISC_PROBE)

    def send(self, packet, destination):
        self.socket.sendto(packet, (destination, 0))


def flood(host, port, sources, first_port, ports):
    sender, sent = RawSender(host), 0
    for source in sources.split(","):
        for source_port in range(int(first_port), int(first_port) + int(ports)):
            datagram = udp_datagram(source, source_port, host, int(port), b"taken in silence")
            sender.send(ip_packet(source, host, UDP, datagram, identification=source_port, flags=0x4000), host)
            sent += 1
    say({"sent": sent})


def pattern(number, length):
    return random.Random(number).randbytes(length)


def message(head, number, length):
    """A line of JSON, and behind it bytes that both ends know, in all `length` bytes."""
    line = json.dumps(head).encode() + b"\n"
    return line + pattern(number, length - len(line))


def read_message(data):
    """@returns the head, or None when the bytes behind it are not what they should be."""
    line, separator, rest = data.partition(b"\n")
    if not separator:
        return None
    head = json.loads(line)
    return head if rest == pattern(head["number"], len(rest)) else None


def udp_socket(address, port):
    opened = socket.socket(family_of(address), socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.bind((address, int(port)))
    return opened


def send_fragments(sender, source, source_port, destination, port, payload, mtu, order):
    datagram = udp_datagram(source, source_port, destination, port, payload)
    packets = fragments_of(source, destination, datagram, mtu, random.getrandbits(32))
    for index in order:
        sender.send(packets[index], destination)


def answer(identity, addresses, port, mtu):
    opened = {}
    for address in addresses.split(","):
        listener = udp_socket(address, port)
        opened[listener] = (address, RawSender(address))
    say("ready")
    while True:
        for listener in select.select(list(opened), [], [])[0]:
            data, peer = listener.recvfrom(1 << 16)
            if not data.startswith(b"{"):
                continue
            address, sender = opened[listener]
            head = read_message(data)
            number = head["number"] if head else json.loads(data.partition(b"\n")[0])["number"]
            wanted = head["answer"] if head else {"bytes": 100, "order": [0]}
            reply = {"number": number, "server": identity, "ok": head is not None}
            payload = message(reply, number, wanted["bytes"])
            send_fragments(sender, address, int(port), peer[0], peer[1], payload, int(mtu), wanted["order"])


def exchange(host, port, source, source_port, mtu):
    listener, sender = udp_socket(source, source_port), RawSender(source)
    requests = [json.loads(line) for line in sys.stdin if line.strip()]
    waiting = {request["number"] for request in requests if not request.get("silent")}
    asked = {}

    def send(request):
        number = request["number"]
        asked[number] = asked.get(number, 0) + 1
        payload = message({"number": number, "answer": request["answer"]}, number, request["bytes"])
        send_fragments(sender, source, int(source_port), host, int(port), payload, int(mtu), request["order"])

    for request in requests:
        send(request)
    answered, answers, wrong, deadline = {}, {}, [], time.monotonic() + PATIENCE_S
    while waiting and time.monotonic() < deadline:
        listener.settimeout(RESEND_S)
        try:
            data, peer = listener.recvfrom(1 << 16)
        except TimeoutError:
            for request in requests:
                if request["number"] in waiting:
                    send(request)
            continue
        head = read_message(data)
        expected = {request["number"]: request["answer"]["bytes"] for request in requests if not request.get("silent")}
        number = head["number"] if head else None
        answers[number] = answers.get(number, 0) + 1
        if number not in expected or not head["ok"] or peer[:2] != (host, int(port)) or answers[number] > asked[number]:
            wrong.append(f"from {peer}: {data[:80]!r}")
            continue
        if len(data) != expected[number]:
            wrong.append(f"answer {number} has {len(data)} of {expected[number]} bytes")
        waiting.discard(number)
        answered[number] = head["server"]
    say({"answered": answered, "wrong": wrong, "missing": sorted(waiting)})


def probe_packet(kind, host, port, source, source_port, ttl, length):
    header = 40 if is_v6(host) else 20
    if kind == "udp":
        protocol, transport = UDP, udp_datagram(source, source_port, host, port, b"?" * (length - header - 8))
    elif kind == "tcp":
        protocol = TCP
        fields = struct.pack("!HHIIBBHHH", source_port, port, 1000, 0, 5 << 4, 2, 1024, 0, 0)
        transport = with_sum(source, host, TCP, fields + bytes(length - header - 20), 16)
    else:
        body = struct.pack("!HH", source_port, 1) + bytes(length - header - 8)
        if is_v6(host):
            protocol, transport = ICMP6, with_sum(source, host, ICMP6, b"\x80\0\0\0" + body, 2)
        else:
            protocol, transport = ICMP, b"\x08\0" + struct.pack("!H", internet_sum(b"\x08\0\0\0" + body)) + body
    return ip_packet(source, host, protocol, transport, ttl=ttl, identification=source_port, flags=0x4000)


def transport_of(data, v6):
    """Raw sockets give the IPv4 header, but not that of IPv6."""
    return data if v6 else data[(data[0] & 15) * 4 :]


def read_icmp(data, peer, source, source_port, v6):
    icmp = transport_of(data, v6)
    kind, code = icmp[0], icmp[1]
    if kind == (129 if v6 else 0):
        if icmp[4:6] != struct.pack("!H", source_port):
            return None
        return {"from": peer, "kind": "answer", "type": kind, "code": code}
    if kind not in ((1, 2, 3, 4) if v6 else (3, 11, 12)):
        return None
    covered = (pseudo_header(peer, source, ICMP6, len(icmp)) if v6 else b"") + icmp
    mtu = struct.unpack("!I", icmp[4:8])[0] & (0xFFFFFFFF if v6 else 0xFFFF)
    found = {"from": peer, "kind": "error", "type": kind, "code": code, "mtu": mtu}
    return found | {"quote": icmp[8:].hex(), "quoteSummed": internet_sum(covered) == 0}


def probe():
    say([probe_one(**json.loads(line)) for line in sys.stdin if line.strip()])


def probe_one(kind, host, port, source, ttl, bytes, count=1):
    v6 = is_v6(host)
    icmp = socket.socket(family_of(host), socket.SOCK_RAW, ICMP6 if v6 else ICMP)
    icmp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    other = socket.socket(family_of(host), socket.SOCK_RAW, UDP if kind == "udp" else TCP)
    # Holds the port, so that this kernel complains about no answer.
    held = udp_socket(source, 0)
    source_port = held.getsockname()[1]
    packet = probe_packet(kind, host, port, source, source_port, ttl, bytes)
    sender, began = RawSender(host), time.monotonic()
    for _ in range(count):
        sender.send(packet, host)
    came = []
    while not came or count > 1:
        ready = select.select([icmp, other], [], [], PATIENCE_S if not came else 1)[0]
        if not ready:
            break
        for one in ready:
            data, peer = one.recvfrom(1 << 16)
            if one is icmp:
                found = read_icmp(data, peer[0], source, source_port, v6)
            else:
                ports = struct.pack("!HH", port, source_port)
                is_answer = transport_of(data, v6)[:4] == ports
                found = {"from": peer[0], "kind": "answer", "type": 0, "code": 0} if is_answer else None
            if found:
                came.append(found | {"sent": packet.hex()})
    return {"tookMs": (time.monotonic() - began) * 1000, "answers": came}


if __name__ == "__main__":
    commands = {"flood": flood, "answer": answer, "exchange": exchange, "probe": probe}
    commands[sys.argv[1]](*sys.argv[2:])
