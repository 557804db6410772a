#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
"""The ops verbs' table: `help` gives it out, tandemctl knows each of its verbs, mistyped verbs and arguments are told what is meant; a call
is shown and ended by its Call-ID; a table is shown again and again."""
import re
import sys

sys.path.insert(0, sys.path[0] + "/../lib")
from core_calls import Caller
from harness import check, equal, main
from programs import ROOT, CtlError


def page_is_true(gw, verbs):
    """The room's page has each verb with its arguments, and a call's and a media's fields, as the program gives them."""
    rows = re.findall(r"^\| (`.*?`) \|(.*?)\| (.*) \|$", (ROOT / "controlplane/app/README.md").read_text(), re.M)
    told = {name: (arguments, result) for names, arguments, result in rows for name in re.findall(r"`(.*?)`", names)}
    equal(sorted(told), sorted(verbs), "verbs of controlplane/app/README.md")
    for name, row in verbs.items():
        if name not in ("policy set", "level set"):  # theirs are a rule's, a level's
            words = set(re.findall(r"\w+", told[name][0]))
            check({a["name"] for a in row["arguments"]} <= words, f"arguments of {name} in the page: {row['arguments']}")
    call, media = gw.ctl.ops("call list")["calls"][0], gw.ctl.media()[0]
    for what, fields in (("call list", call), ("media show", {**media, **media["legs"][0], **media["legs"][0]["received"]})):
        equal(sorted(set(fields) - set(re.findall(r"\w+", told[what][1]))), [], f"fields of {what} without a word in the page")


def test(t):
    net = t.network(ue2=False)
    gw = t.gateway(net, kamailio=False)
    calls = Caller(gw, net.bob_address)
    for name in ("one@call", "two"):
        calls.begin(name)

    verbs = {v["verb"]: v for v in gw.ctl.ops("help")["verbs"]}
    for name in verbs.keys() - {"help", "record export", "policy export"}:  # those two write files
        status, out, err = gw.ctl.raw(*name.split(), "--help")
        equal((status, "Usage:" in out), (0, True), f"tandemctl {name} --help: {err}")
    page_is_true(gw, verbs)
    check({"name": "id", "type": "number"} in verbs["media show"]["arguments"], "help tells arguments and their types")
    refused(gw, ("stauts",), "did you mean status?")
    refused(gw, ("call", "drpo", "two"), "did you mean drop?")
    refused(gw, ("call", "frobnicate"), "choose one of list, show, drop")
    refused(gw, ("call", "show", "three"), "there is no call three", status=1)
    wrong_over_the_socket(gw)

    shown = gw.ctl.ops("call show", call_id="one@call")
    equal((shown["call_id"], shown["caller"], len(shown["media"]), len(shown["media"][0]["legs"])), ("one@call", "dave", 1, 2), "call show")
    status, out, err = gw.ctl.raw("call", "show", "one@call")
    check(status == 0 and "one@call" in out and "LOCAL RTP" in out, f"the view of a call: {out}{err}")
    status, out, err = gw.ctl.raw("call", "list", "--watch", "--count", 3, "--interval", 0.1)
    equal((status, err, out.count("CALL-ID")), (0, "", 3), "three looks")
    status, out, err = gw.ctl.raw("--json", "call", "list", "--watch", "--count", 2, "--interval", 0.1)
    equal((status, len(out.splitlines())), (0, 2), "as JSON a line a look")

    one = shown["media"][0]["id"]
    equal(gw.ctl("media", "show", one)["id"], one, "media show by its number")

    status, out, err = gw.ctl.raw("call", "drop", "one@call")
    equal((status, out), (0, "call one@call ended\n"), "call drop")
    equal(calls.known(), {"two"}, "the calls that are left")
    equal([m["call_id"] for m in gw.ctl.ops("media list")["media"]], ["two"], "their media")
    counted = {c["name"]: c["total"] for c in gw.ctl.ops("counters")["control"]}
    equal((counted["media_installed"], counted["media_up"]), (2, 1), "media that began, and that go on")
    refused(gw, ("call", "drop", "one@call"), "there is no call one@call", status=1)
    calls.whole("one@call")  # the Call-ID serves again


def refused(gw, words, text, status=2):
    got, out, err = gw.ctl.raw(*words)
    check(got == status and text in err and not out, f"{words}: {got}, {err}")


def wrong_over_the_socket(gw):
    for verb, args, text in (("media shown", {}, 'did you mean "media show"?'), ("nonsense", {}, "known: help, version, status"),
                             ("media show", {"idd": 1}, 'media show takes no argument "idd"; it takes id'),
                             ("media show", {"id": "x"}, '"id" must be a number')):
        try:
            gw.ctl.ops(verb, **args)
            raise AssertionError(f"{verb} {args} was taken")
        except CtlError as e:
            check(e.code == "usage" and text in str(e), f"{verb} {args}: {e.code}, {e}")


main(test, "ops verbs: one table, and what is meant where something is mistyped")
