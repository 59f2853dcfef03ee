#!/usr/bin/python3
"""Makes the golden captures NAME.in.pcap and NAME.out.pcap with scapy: one conversation per rule type, protocol and family.

Run by hand when a conversation changes; the tests read only the committed files. NAME.in.pcap holds what arrives at the
box, NAME.out.pcap what has to leave it, in order, each built by scapy from its fields, so that every checksum is
scapy's own. At the end tcpdump checks all checksums again. The world is that of test/support/engine-bench.ts, with one
server (192.0.2.10) and, for full NAT, the first proxy port, 4096.
"""
import os
import subprocess
import sys

from scapy.all import (ICMP, IP, TCP, UDP, Ether, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig,
                       IPOption_Router_Alert, IPv6, IPv6ExtHdrHopByHop, Raw, RouterAlert, fragment, fragment6,
                       IPv6ExtHdrFragment, wrpcap)

HERE = os.path.dirname(os.path.abspath(__file__))
HOSTS = {"client": "203.0.113.200", "vip": "198.51.100.10", "server": "192.0.2.10", "proxy": "203.0.113.1",
         "router": "203.0.113.77"}
CLIENT_MAC, SERVER_MAC = "02:0c:00:00:00:01", "02:0d:00:00:00:01"
BOX_CLIENT_MAC, BOX_SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
CLIENT_PORT, PROXY_PORT = 40000, 4096
START = 1_800_000_000


class Conversation:
    """Collects what arrives and what has to leave."""

    def __init__(self, kind, protocol, family):
        self.kind, self.protocol, self.family = kind, protocol, family
        self.vip_port, self.server_port = (80, 8080) if protocol == "tcp" else (53, 5353)
        if kind == "dsr":
            self.server_port = self.vip_port
        self.arriving, self.leaving = [], []
        self.identification = 100

    def host(self, name):
        return HOSTS[name] if self.family == 4 else "2001:db8::" + HOSTS[name]

    def ip(self, source, destination, ttl, options=None, **fields):
        """An IP header. In IPv6 the type of service is the traffic class, and a flow label shows that it stays."""
        if self.family == 4:
            return IP(src=source, dst=destination, ttl=ttl, options=options or [], **fields)
        header = IPv6(src=source, dst=destination, hlim=ttl, tc=fields.get("tos", 0), fl=self.identification)
        return header / IPv6ExtHdrHopByHop(options=[RouterAlert()]) if options else header

    def layer(self, sport, dport, fields):
        return (TCP if self.protocol == "tcp" else UDP)(sport=sport, dport=dport, **fields)

    def inner_ends(self):
        """What the server sees as the client."""
        return (self.host("proxy"), PROXY_PORT) if self.kind == "nat" else (self.host("client"), CLIENT_PORT)

    def add(self, into, ether, ip, rest):
        packet = Ether(bytes(ether / ip / rest))  # Builds, so that scapy fills in lengths and checksums.
        packet.time = START + len(self.arriving) * 0.001
        into.append(packet)

    def from_client(self, payload=b"", ttl=64, options=None, **fields):
        self.identification += 1
        ip = dict(id=self.identification, flags="DF", tos=0x10, options=options)
        data = Raw(payload) if payload else b""
        client, vip = self.host("client"), self.host("vip")
        self.add(self.arriving, Ether(dst=BOX_CLIENT_MAC, src=CLIENT_MAC),
                 self.ip(client, vip, ttl, **ip), self.layer(CLIENT_PORT, self.vip_port, fields) / data)
        source, sport = self.inner_ends()
        ends = (client, vip) if self.kind == "dsr" else (source, self.host("server"))
        if self.kind == "dsr":
            sport = CLIENT_PORT
        self.add(self.leaving, Ether(dst=SERVER_MAC, src=BOX_SERVER_MAC),
                 self.ip(*ends, ttl - 1, **ip), self.layer(sport, self.server_port, fields) / data)

    def from_server(self, payload=b"", ttl=63, **fields):
        if self.kind == "dsr":
            return  # It answers the client itself.
        self.identification += 1
        ip = dict(id=self.identification, flags="DF")
        data = Raw(payload) if payload else b""
        source, sport = self.inner_ends()
        self.add(self.arriving, Ether(dst=BOX_SERVER_MAC, src=SERVER_MAC),
                 self.ip(self.host("server"), source, ttl, **ip), self.layer(self.server_port, sport, fields) / data)
        self.add(self.leaving, Ether(dst=CLIENT_MAC, src=BOX_CLIENT_MAC),
                 self.ip(self.host("vip"), self.host("client"), ttl - 1, **ip),
                 self.layer(self.vip_port, CLIENT_PORT, fields) / data)

    def quoted(self, source, sport, destination, dport):
        """The start of a server's packet as a router quotes it: 8 bytes of its transport header."""
        ip = self.ip(source, destination, 60, id=77, flags="DF")
        whole = bytes(ip / self.layer(sport, dport, {}) / Raw(bytes(1400)))
        return whole[:28 if self.family == 4 else 48]

    def too_big(self):
        """A router towards the client cannot send on what the VIP sent."""
        if self.kind == "dsr":
            return
        source, sport = self.inner_ends()
        vip, client, server = self.host("vip"), self.host("client"), self.host("server")
        # Built whole and cut afterwards, so that a quoted UDP checksum is that of the whole packet.
        before = self.quoted(vip, self.vip_port, client, CLIENT_PORT)
        after = self.quoted(server, self.server_port, source, sport)
        outer = dict(id=900, tos=0xC0)
        error = ICMP(type=3, code=4, nexthopmtu=1400) if self.family == 4 else ICMPv6PacketTooBig(mtu=1400)
        self.add(self.arriving, Ether(dst=BOX_CLIENT_MAC, src=CLIENT_MAC),
                 self.ip(self.host("router"), vip, 250, **outer), error / Raw(before))
        sender = self.host("proxy" if self.kind == "nat" else "router")
        self.add(self.leaving, Ether(dst=SERVER_MAC, src=BOX_SERVER_MAC),
                 self.ip(sender, server, 249, **outer), error / Raw(after))

    def ping(self):
        ends = dict(id=901, flags="DF")
        client, vip = self.host("client"), self.host("vip")
        if self.family == 4:
            request, reply = (ICMP(type=kind, id=7, seq=1) / Raw(b"abcdefg") for kind in (8, 0))
        else:
            request, reply = (kind(id=7, seq=1, data=b"abcdefg") for kind in (ICMPv6EchoRequest, ICMPv6EchoReply))
        self.add(self.arriving, Ether(dst=BOX_CLIENT_MAC, src=CLIENT_MAC), self.ip(client, vip, 61, **ends), request)
        answer = self.ip(vip, client, 64, **ends)
        if self.family == 6:
            answer.fl = 0
        self.add(self.leaving, Ether(dst=CLIENT_MAC, src=BOX_CLIENT_MAC), answer, reply)

    def in_fragments(self):
        """A datagram of the client in fragments, cut before and after by scapy; the second one comes first."""
        self.identification += 1
        payload = bytes(i * 3 & 255 for i in range(2000))

        def parts(source, destination, sport, dport, ttl):
            data = self.layer(sport, dport, {}) / Raw(payload)
            if self.family == 4:
                return fragment(self.ip(source, destination, ttl, id=self.identification) / data, 800)
            header = self.ip(source, destination, ttl) / IPv6ExtHdrFragment(id=self.identification) / data
            return fragment6(IPv6(bytes(header)), 900)

        client, vip = self.host("client"), self.host("vip")
        source, sport = (client, CLIENT_PORT) if self.kind == "dsr" else self.inner_ends()
        destination = vip if self.kind == "dsr" else self.host("server")
        before = parts(client, vip, CLIENT_PORT, self.vip_port, 64)
        after = parts(source, destination, sport, self.server_port, 63)
        for i in (1, 0, 2):
            self.add(self.arriving, Ether(dst=BOX_CLIENT_MAC, src=CLIENT_MAC), before[i], b"")
        for i in (0, 1, 2):
            self.add(self.leaving, Ether(dst=SERVER_MAC, src=BOX_SERVER_MAC), after[i], b"")

    def write(self):
        name = os.path.join(HERE, f"{self.kind}-{self.protocol}{'' if self.family == 4 else '6'}")
        wrpcap(f"{name}.in.pcap", self.arriving)
        wrpcap(f"{name}.out.pcap", self.leaving)
        return [f"{name}.in.pcap", f"{name}.out.pcap"]


def tcp_conversation(kind, family):
    talk = Conversation(kind, "tcp", family)
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


def udp_conversation(kind, family):
    talk = Conversation(kind, "udp", family)
    talk.ping()
    talk.from_client(b"question")
    talk.from_server(b"answer!")
    if family == 4:
        talk.from_client(b"without checksum", chksum=0)
        talk.from_server(b"without checksum too", chksum=0)
    talk.from_client(bytes(1372))
    talk.in_fragments()
    talk.too_big()
    talk.from_server(bytes(range(255)))
    return talk.write()


def check(path):
    """tcpdump verifies IPv4, TCP, UDP and ICMP checksums with -vv."""
    text = subprocess.run(["tcpdump", "-vv", "-n", "-r", path], capture_output=True, text=True, check=True).stdout
    bad = [line for line in text.splitlines() if "bad cksum" in line or "incorrect" in line or "wrong" in line or "bad udp" in line]
    if bad:
        sys.exit(f"{path}: {bad}")
    print(f"{os.path.basename(path)}: {sum('IP (' in line or 'IP6 (' in line for line in text.splitlines())} packets, checksums verified by tcpdump")


for rule_type in ("dsr", "half-nat", "nat"):
    for address_family in (4, 6):
        for path in tcp_conversation(rule_type, address_family) + udp_conversation(rule_type, address_family):
            check(path)
