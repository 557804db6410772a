# SPDX-License-Identifier: Apache-2.0
"""SIPp's scenarios, as text for a file that `sipp -sf FILE` gets: a caller that sets up a call, waits and hangs up, and a callee that
keeps Record-Route (SIPp's own does not). Media are said and not sent."""

import re

_SDP = """
      Content-Type: application/sdp
      Content-Length: [len]

      v=0
      o=- 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio {port} RTP/AVP 8
      a=rtpmap:8 PCMA/8000
"""
_NO_BODY = """
      Content-Length: 0
"""
_HEAD = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="{name}">
"""
_REQUEST = """  <send{again} {txn}="{of}"><![CDATA[
      {method} {uri} SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]{routes}
      From: <sip:{sender}>;tag=[call_number]
      To: <sip:{to}>{tag}
      Call-ID: [call_id]
      CSeq: {cseq} {method}
      Contact: <sip:{user}@[local_ip]:[local_port]>
      Max-Forwards: 70{more}{body}
  ]]></send>
"""
_REPLY = """  <send{again}><![CDATA[
      SIP/2.0 200 OK
      [last_Via:]
      [last_Record-Route:]
      [last_From:]
      [last_To:]{tag}
      [last_Call-ID:]
      [last_CSeq:]
      Contact: <sip:{user}@[local_ip]:[local_port]>{body}
  ]]></send>
"""


def caller(to, sender, port=7000, more="", late=False, pause_ms=1000):
    """to, sender: user@host, as in To and From; more: a header line of the INVITE; late: the offer comes in the 200, the answer in ACK."""
    sdp = _SDP.format(port=port)

    # Each reply by its own transaction: SIPp takes a late 200 to INVITE for the BYE's otherwise, and does not send a lost BYE again.
    def request(method, cseq, again=False, uri="[next_url]", routes="\n      [routes]", tag="[peer_tag_param]", more="", body=_NO_BODY):
        return _REQUEST.format(method=method, cseq=cseq, again=' retrans="500"' if again else "", uri=uri, routes=routes, tag=tag, to=to,
                               sender=sender, user=sender.partition("@")[0],
                               more=f"\n      {more}" if more else "", body=body, txn="ack_txn" if method == "ACK" else "start_txn",
                               of="bye" if method == "BYE" else "invite")

    return (_HEAD.format(name="caller")
            + request("INVITE", 1, True, f"sip:{to}", "", "", more, _NO_BODY if late else sdp)
            + "".join(f'  <recv response="{code}" optional="true" response_txn="invite"></recv>\n' for code in (100, 180))
            + '  <recv response="200" rrs="true" response_txn="invite"></recv>\n'
            + request("ACK", 1, body=sdp if late else _NO_BODY)
            + f'  <pause milliseconds="{pause_ms}"/>\n'
            + request("BYE", 2, True)
            + '  <recv response="200" response_txn="bye"></recv>\n</scenario>\n')


def callee(user, port=9000, timewait_ms=0):
    """timewait_ms: how long a BYE that is sent again is answered again (RFC 3261 17.2.2: timer J, 32 s)."""
    def reply(body, again="", tag=""):
        return _REPLY.format(user=user, body=body, again=again, tag=tag)

    return (_HEAD.format(name="callee") + '  <recv request="INVITE" crlf="true"></recv>\n'
            + reply(_SDP.format(port=port), ' retrans="500"', ";tag=[call_number]") + '  <recv request="ACK"></recv>\n  <recv request="BYE"></recv>\n'
            + reply(_NO_BODY) + (f'  <timewait milliseconds="{timewait_ms}"/>\n' if timewait_ms else "") + "</scenario>\n")


def counted(output, word):
    """How many calls SIPp says at its end were "Successful" or "Failed", None where it says nothing."""
    found = re.findall(rf"{word} call\s*\|\s*\d+\s*\|\s*(\d+)", output)
    return int(found[-1]) if found else None
