#!/usr/bin/python3
"""Makes the golden captures NAME.in.pcap and NAME.out.pcap with scapy: one conversation per rule type and protocol.

Run by hand when a conversation changes; the tests read only the committed files. NAME.in.pcap holds what arrives at the
box, NAME.out.pcap what has to leave it, in order, each built by scapy from its fields, so that every checksum is
scapy's own. At the end tcpdump checks all checksums again. The world is that of test/support/engine-bench.ts, with one
server (192.0.2.10) and, for full NAT, the first proxy port, 4096.
"""
import os
import subprocess
import sys

from scapy.all import ICMP, IP, TCP, UDP, Ether, IPOption_Router_Alert, Raw, wrpcap

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENT, VIP, SERVER, PROXY, ROUTER = "203.0.113.200", "198.51.100.10", "192.0.2.10", "203.0.113.1", "203.0.113.77"
CLIENT_MAC, SERVER_MAC = "02:0c:00:00:00:01", "02:0d:00:00:00:01"
BOX_CLIENT_MAC, BOX_SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
CLIENT_PORT, PROXY_PORT = 40000, 4096
START = 1_800_000_000


class Conversation:
    """Collects what arrives and what has to leave."""

    def __init__(self, kind, protocol):
        self.kind, self.protocol = kind, protocol
        self.vip_port, self.server_port = (80, 8080) if protocol == "tcp" else (53, 5353)
        if kind == "dsr":
            self.server_port = self.vip_port
        self.arriving, self.leaving = [], []
        self.identification = 100

    def layer(self, sport, dport, fields):
        return (TCP if self.protocol == "tcp" else UDP)(sport=sport, dport=dport, **fields)

    def inner_ends(self):
        """What the server sees as the client."""
        return (PROXY, PROXY_PORT) if self.kind == "nat" else (CLIENT, CLIENT_PORT)

    def add(self, into, ether, ip, rest):
        packet = Ether(bytes(ether / ip / rest))  # Builds, so that scapy fills in lengths and checksums.
        packet.time = START + len(self.arriving) * 0.001
        into.append(packet)

    def from_client(self, payload=b"", ttl=64, options=None, **fields):
        self.identification += 1
        ip = dict(id=self.identification, flags="DF", tos=0x10, options=options or [])
        data = Raw(payload) if payload else b""
        self.add(self.arriving, Ether(dst=BOX_CLIENT_MAC, src=CLIENT_MAC),
                 IP(src=CLIENT, dst=VIP, ttl=ttl, **ip), self.layer(CLIENT_PORT, self.vip_port, fields) / data)
        source, sport = self.inner_ends()
        ends = dict(src=CLIENT, dst=VIP) if self.kind == "dsr" else dict(src=source, dst=SERVER)
        if self.kind == "dsr":
            sport = CLIENT_PORT
        self.add(self.leaving, Ether(dst=SERVER_MAC, src=BOX_SERVER_MAC),
                 IP(ttl=ttl - 1, **ends, **ip), self.layer(sport, self.server_port, fields) / data)

    def from_server(self, payload=b"", ttl=63, **fields):
        if self.kind == "dsr":
            return  # It answers the client itself.
        self.identification += 1
        ip = dict(id=self.identification, flags="DF")
        data = Raw(payload) if payload else b""
        source, sport = self.inner_ends()
        self.add(self.arriving, Ether(dst=BOX_SERVER_MAC, src=SERVER_MAC),
                 IP(src=SERVER, dst=source, ttl=ttl, **ip), self.layer(self.server_port, sport, fields) / data)
        self.add(self.leaving, Ether(dst=CLIENT_MAC, src=BOX_CLIENT_MAC),
                 IP(src=VIP, dst=CLIENT, ttl=ttl - 1, **ip), self.layer(self.vip_port, CLIENT_PORT, fields) / data)

    def quoted(self, source, sport, destination, dport):
        """The start of a server's packet as a router quotes it: 8 bytes of its transport header."""
        ip = IP(src=source, dst=destination, id=77, flags="DF", ttl=60)
        whole = bytes(ip / self.layer(sport, dport, {}) / Raw(bytes(1400)))
        return whole[:28]

    def too_big(self):
        """A router towards the client cannot send on what the VIP sent."""
        if self.kind == "dsr":
            return
        source, sport = self.inner_ends()
        # Built whole and cut afterwards, so that a quoted UDP checksum is that of the whole packet.
        before = self.quoted(VIP, self.vip_port, CLIENT, CLIENT_PORT)
        after = self.quoted(SERVER, self.server_port, source, sport)
        outer = dict(id=900, tos=0xC0)
        error = dict(type=3, code=4, nexthopmtu=1400)
        self.add(self.arriving, Ether(dst=BOX_CLIENT_MAC, src=CLIENT_MAC),
                 IP(src=ROUTER, dst=VIP, ttl=250, **outer), ICMP(**error) / Raw(before))
        self.add(self.leaving, Ether(dst=SERVER_MAC, src=BOX_SERVER_MAC),
                 IP(src=PROXY if self.kind == "nat" else ROUTER, dst=SERVER, ttl=249, **outer), ICMP(**error) / Raw(after))

    def ping(self):
        ends = dict(id=901, flags="DF")
        echo = dict(id=7, seq=1)
        self.add(self.arriving, Ether(dst=BOX_CLIENT_MAC, src=CLIENT_MAC),
                 IP(src=CLIENT, dst=VIP, ttl=61, **ends), ICMP(type=8, **echo) / Raw(b"abcdefg"))
        self.add(self.leaving, Ether(dst=CLIENT_MAC, src=BOX_CLIENT_MAC),
                 IP(src=VIP, dst=CLIENT, ttl=64, **ends), ICMP(type=0, **echo) / Raw(b"abcdefg"))

    def write(self):
        name = os.path.join(HERE, f"{self.kind}-{self.protocol}")
        wrpcap(f"{name}.in.pcap", self.arriving)
        wrpcap(f"{name}.out.pcap", self.leaving)
        return [f"{name}.in.pcap", f"{name}.out.pcap"]


def tcp_conversation(kind):
    talk = Conversation(kind, "tcp")
    handshake = [("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7)]
    talk.ping()
    talk.from_client(flags="S", seq=0xFFFFFFF0)
    talk.from_server(flags="SA", seq=5000, ack=0xFFFFFFF1, options=handshake)
    talk.from_client(flags="A", seq=0xFFFFFFF1, ack=5001, options=[IPOption_Router_Alert()])
    request = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
    talk.from_client(request, flags="PA", seq=0xFFFFFFF1, ack=5001)
    end = (0xFFFFFFF1 + len(request)) & 0xFFFFFFFF
    answer = bytes(range(256)) * 5 + b"odd"
    talk.from_server(answer, flags="A", seq=5001, ack=end)
    talk.too_big()
    talk.from_client(flags="FA", seq=end, ack=5001 + len(answer))
    talk.from_server(flags="FA", seq=5001 + len(answer), ack=end + 1)
    talk.from_client(flags="A", seq=end + 1, ack=5002 + len(answer), ttl=2)
    return talk.write()


def udp_conversation(kind):
    talk = Conversation(kind, "udp")
    talk.ping()
    talk.from_client(b"question")
    talk.from_server(b"answer!")
    talk.from_client(b"without checksum", chksum=0)
    talk.from_server(b"without checksum too", chksum=0)
    talk.from_client(bytes(1372))
    talk.too_big()
    talk.from_server(bytes(range(255)))
    return talk.write()


def check(path):
    """tcpdump verifies IPv4, TCP, UDP and ICMP checksums with -vv."""
    text = subprocess.run(["tcpdump", "-vv", "-n", "-r", path], capture_output=True, text=True, check=True).stdout
    bad = [line for line in text.splitlines() if "bad cksum" in line or "incorrect" in line or "wrong" in line or "bad udp" in line]
    if bad:
        sys.exit(f"{path}: {bad}")
    print(f"{os.path.basename(path)}: {sum('IP (' in line for line in text.splitlines())} packets, checksums verified by tcpdump")


for rule_type in ("dsr", "half-nat", "nat"):
    for path in tcp_conversation(rule_type) + udp_conversation(rule_type):
        check(path)
