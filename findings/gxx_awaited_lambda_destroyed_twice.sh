#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# g++ 12.2 (Debian 12's): what a lambda captured by value is destroyed twice where the lambda is a temporary in a co_await expression, an
# argument of the coroutine that is awaited. Captured is it once less than it goes: a shared_ptr, the usual capture of asio's coroutines, then
# counts one owner too few, and the object goes while others hold it, long after and far from there; nothing warns. It makes no difference
# whether the parameter is the lambda's own type or a std::function. A function with a name, or an object of a class in place of the lambda,
# is destroyed as often as it was made.
#
# Seen on Debian 12, 2026-12-01, g++-12 12.2.0-14+deb12u1 with asio 1.22.1. What is captured here only counts.
. "$(dirname "$0")/parts/packages"
unpack g++-12=12.2.0-14+deb12u1 libc6-dev libasio-dev=1:1.22.1-1

cat >"$place/awaited.cpp" <<'IN'
#include <asio.hpp>
#include <cstdio>
#include <functional>
int made, gone;
struct counted {
    counted() { ++made; }
    counted(const counted&) { ++made; }
    ~counted() { ++gone; }
    void operator()() const {}
};
asio::awaitable<void> call(std::function<void()> what) { what(); co_return; }
template <class F> asio::awaitable<void> call_its_type(F what) { what(); co_return; }

asio::awaitable<void> with_a_name() { counted c; const std::function<void()> f = [c] { c(); }; co_await call(f); }
asio::awaitable<void> an_object() { co_await call(counted()); }
asio::awaitable<void> a_lambda() { counted c; co_await call([c] { c(); }); }
asio::awaitable<void> a_lambda_of_its_type() { counted c; co_await call_its_type([c] { c(); }); }

void run(const char* what, asio::awaitable<void> (*body)()) {
    made = gone = 0;
    asio::io_context io;
    asio::co_spawn(io, body, asio::detached);
    io.run();
    std::printf("%s: %d destroyed more than made\n", what, gone - made);
}
int main() {
    run("a function with a name", with_a_name);
    run("a temporary object", an_object);
    run("a temporary lambda, for a std::function", a_lambda);
    run("a temporary lambda, for a parameter of its type", a_lambda_of_its_type);
}
IN
unpacked g++-12 -std=c++20 -O2 "--sysroot=$place/root" "$place/awaited.cpp" -o "$place/awaited" || { echo "the compiler ended with an error"; exit 1; }
unpacked "$place/awaited" >"$place/seen"
expect "$place/seen" <<'IN'
a function with a name: 0 destroyed more than made
a temporary object: 0 destroyed more than made
a temporary lambda, for a std::function: 1 destroyed more than made
a temporary lambda, for a parameter of its type: 1 destroyed more than made
IN
