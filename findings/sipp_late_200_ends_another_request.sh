#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SIPp 3.6.1: a scenario's <recv response="200"> behind BYE takes a 200 to INVITE that comes late (its ACK was lost, RFC 3261 13.3.1.4: the
# callee says it again) for the BYE's own, unless the scenario names transactions (start_txn, response_txn): the CSeq is looked at only as far
# as its method is one of those sent so far. The call counts as successful and a BYE that was lost is never sent again: on a busy machine calls
# stay at whatever was to hear of the BYE. With the transactions named SIPp waits, and sends BYE again.
#
# Seen on Debian 12, 2026-12-01: what SIPp says of one call to a callee that repeats its 200 to INVITE (with another line of its own in it, as
# proxies write them) and does not answer the first three BYEs.
. "$(dirname "$0")/parts/packages"
unpack sip-tester=1:3.6.1-1+b2
cat >"$place/callee.py" <<'P'
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
s.settimeout(6)
print(s.getsockname()[1], flush=True)
byes = acks = 0

def answer(request, to, more=""):
    kept = [line for line in request.split("\r\n") if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")]
    kept = [line + ";tag=callee" if line.startswith("To:") and "tag=" not in line else line for line in kept]
    s.sendto("\r\n".join(["SIP/2.0 200 OK", *kept, "Contact: <sip:callee@127.0.0.1>", *([more] if more else []), "Content-Length: 0", "", ""]).encode(), to)

invite = None
while True:
    try:
        data, who = s.recvfrom(4096)
    except TimeoutError:
        break
    text = data.decode()
    method = text.split(" ")[0]
    if method == "INVITE":
        invite = text
        answer(text, who)
    elif method == "BYE":
        byes += 1
        if byes == 1:
            answer(invite, who, "X-Again: 1")
        if byes > 3:
            answer(text, who)
            break
print(f"BYEs seen: {byes}")
P
scenario() { # attributes of INVITE, of its 200, of ACK, of BYE, of its 200
    cat <<S
<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="caller">
  <send retrans="500" $1><![CDATA[
      INVITE sip:callee@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
      From: <sip:caller@[local_ip]>;tag=[call_number]
      To: <sip:callee@[remote_ip]>
      Call-ID: [call_id]
      CSeq: 1 INVITE
      Contact: <sip:caller@[local_ip]:[local_port]>
      Max-Forwards: 70
      Content-Length: 0
  ]]></send>
  <recv response="200" $2></recv>
  <send $3><![CDATA[
      ACK sip:callee@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
      From: <sip:caller@[local_ip]>;tag=[call_number]
      To: <sip:callee@[remote_ip]>[peer_tag_param]
      Call-ID: [call_id]
      CSeq: 1 ACK
      Max-Forwards: 70
      Content-Length: 0
  ]]></send>
  <pause milliseconds="100"/>
  <send retrans="500" $4><![CDATA[
      BYE sip:callee@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
      From: <sip:caller@[local_ip]>;tag=[call_number]
      To: <sip:callee@[remote_ip]>[peer_tag_param]
      Call-ID: [call_id]
      CSeq: 2 BYE
      Max-Forwards: 70
      Content-Length: 0
  ]]></send>
  <recv response="200" $5></recv>
</scenario>
S
}
look() { # name
    python3 "$place/callee.py" >"$place/$1.callee" &
    local callee=$!
    until [ -s "$place/$1.callee" ]; do sleep 0.1; done
    unpacked sipp -sf "$place/$1.xml" -i 127.0.0.1 -m 1 -nostdin "127.0.0.1:$(head -1 "$place/$1.callee")" >"$place/said" 2>&1 || :
    wait "$callee"
    echo "$1: successful $(sed -n 's/.*Successful call *| *[0-9]* *| *\([0-9]*\).*/\1/p' "$place/said" | tail -1), $(tail -1 "$place/$1.callee")"
}
scenario "" "" "" "" "" >"$place/plain.xml"
scenario 'start_txn="invite"' 'response_txn="invite"' 'ack_txn="invite"' 'start_txn="bye"' 'response_txn="bye"' >"$place/named.xml"
{ look plain; look named; } >"$place/seen"
expect "$place/seen" <<'T'
plain: successful 1, BYEs seen: 1
named: successful 1, BYEs seen: 4
T
