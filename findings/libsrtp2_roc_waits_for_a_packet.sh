#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# libsrtp2 2.5.0: srtp_set_stream_roc in mid-stream does not speak of the sequence number that the stream has reached, but of the next packet,
# whichever that is; until then srtp_get_stream_roc gives the old value. Who takes a stream over with (counter, highest sequence number), as a
# standby gateway does, and sets the counter that belongs to the highest number, is one wrap short if the next packet lies behind the wrap:
# it is protected under the counter before. To be right, the counter must be set for the packet that comes next.
#
# Seen on Debian 12, 2026-11-30. Needs gcc.
. "$(dirname "$0")/parts/packages"
command -v gcc >/dev/null || { echo "not tried: gcc is missing"; exit 77; }
unpack libsrtp2-1=2.5.0-3 libsrtp2-dev=2.5.0-3
cat >"$place/look.c" <<'C'
#include <srtp2/srtp.h>
#include <stdio.h>
#include <string.h>

static const unsigned ssrc = 0x11223344;

static unsigned counter(srtp_t session) {
    unsigned value = 0;
    srtp_get_stream_roc(session, ssrc, &value);
    return value;
}

static void send(srtp_t session, unsigned sequence) {
    unsigned char packet[256] = {0x80, 0, (unsigned char)(sequence >> 8), (unsigned char)sequence, 0, 0, 0, 0, 0x11, 0x22, 0x33, 0x44};
    int length = 172;
    srtp_err_status_t status = srtp_protect(session, packet, &length);
    printf("sequence %u: status %d, counter %u\n", sequence, (int)status, counter(session));
}

int main(void) {
    unsigned char key[30] = {1, 2, 3};
    srtp_policy_t policy;
    srtp_t session;
    memset(&policy, 0, sizeof policy);
    srtp_crypto_policy_set_rtp_default(&policy.rtp);
    srtp_crypto_policy_set_rtcp_default(&policy.rtcp);
    policy.ssrc.type = ssrc_specific;
    policy.ssrc.value = ssrc;
    policy.key = key;
    if (srtp_init() != srtp_err_status_ok || srtp_create(&session, &policy) != srtp_err_status_ok)
        return 1;
    send(session, 65530);
    srtp_set_stream_roc(session, ssrc, 7);
    printf("set to 7, and it says: %u\n", counter(session));
    send(session, 3);
    srtp_dealloc(session);
    return 0;
}
C
gcc -I"$place/root/usr/include" "$place/look.c" -o "$place/look" -L"$libraries" -Wl,--unresolved-symbols=ignore-in-shared-libs -lsrtp2
unpacked "$place/look" >"$place/seen"
expect "$place/seen" <<'T'
sequence 65530: status 0, counter 0
set to 7, and it says: 0
sequence 3: status 0, counter 7
T
