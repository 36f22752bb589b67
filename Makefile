# popd-lua.  `make help` lists the targets.

VERSION  = dev
LUA      = lua5.4
GENERATOR = $(LUA)

# A comma for the arguments of call.
, := ,
# Root has to say whom the program is to serve as.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--user root)
BUSTED   = $(LUA) $$(command -v busted)
CC       = gcc
CFLAGS   = -O2 -g
WARN     = -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
BUILD    = $(BUILD_$(TLS))
SAN      =
Q        = @

# Where Debian has Lua's headers; elsewhere: make LUA_INCDIR=…
LUA_INCDIR = /usr/include/lua5.4

# The library that speaks TLS, mbedtls or openssl (which is OpenSSL 3): make TLS=openssl.
# Each has a directory of its own, and its files behind the same headers.
TLS ?= mbedtls
BUILD_mbedtls = build
BUILD_openssl = build/openssl
TLS_mbedtls = mbed mbedrest ticket_mbed tlsserver_mbed tlsclient_mbed tls_mbed
TLS_openssl = openssl tlsserver_openssl tlsclient_openssl tls_openssl
$(if $(TLS_$(TLS)),,$(error TLS is mbedtls or openssl, not '$(TLS)'))

# The module links to shared libraries; the program carries its own, so that it
# can be copied alone.
MODULE_LIBS  = -lev $(SHARED_$(TLS)) -lmbedx509 -lmbedcrypto -lcrypt -lutf8proc -lpthread
PROGRAM_LIBS = -l:liblua5.4.a -l:libev.a $(STATIC_$(TLS)) -l:libmbedx509.a -l:libmbedcrypto.a -l:libcrypt.a -l:libutf8proc.a \
	-lm -ldl -lpthread
PURE_LIBS    = -lmbedcrypto -lutf8proc
SHARED_mbedtls = -lmbedtls
SHARED_openssl = -lssl -lcrypto
SETUP_openssl = openssl
STATIC_mbedtls = -l:libmbedtls.a
# OpenSSL is the system's, which mends it; C modules that scripts load have that one too.
STATIC_openssl = $(SHARED_openssl)

# The layers; `make layers` proves that nothing calls up.
PURE  = buf linebuf command texts reply mailname mailnames mailsort mailindex maildrop base64 digest prep sasl host proxyproto dotstuff mboxscan mboxindex session say phases authorize transact
IO    = slab loop dirs net dial ticket tlsio tlskit tlswords tlssite $(TLS_$(TLS)) stream outq log pool resolve cert terminal filelock
LUAC  = class memory tidy guard spares task waits tasklua looplua fault await latch job ward signals copy worker errand offload disk fetch source pair fs fscall mailscan maillist mailread maillearn mailchore crypto saslua secret tlslua sock lookup spool mboxlua
JOINT = listener conn time secure send view steps enter deliver leave settings server sandbox module

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -fno-strict-aliasing $(WARN) $(CFLAGS) $(SAN) \
	-DPOPD_VERSION='"$(VERSION)"' -I$(LUA_INCDIR)
OBJECTS = $(patsubst %,$(BUILD)/%.o,$(PURE) $(IO) $(LUAC) $(JOINT))
TESTING = $(patsubst core/%.c,$(BUILD)/%.o,$(wildcard core/testing/*.c))
MODULES = $(wildcard lua/popd/*.lua)

## make            builds the module and the program, in build/
all: $(BUILD)/popd/core.so $(BUILD)/popd-lua

help:
	@sed -n 's/^## //p' Makefile

$(BUILD)/%.o: core/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# What is linked is of one TLS library, also where BUILD was set and TLS has changed.
$(BUILD)/tls-$(TLS):
	@mkdir -p $(@D) && rm -f $(BUILD)/tls-* && touch $@

# Never unloaded: a thread that hangs at the Lua state's end may still run in it.
$(BUILD)/popd/core.so: $(OBJECTS) $(BUILD)/tls-$(TLS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) $(LIBFLAG) -shared -Wl,-z,nodelete -o $@.new $(filter %.o,$^) $(MODULE_LIBS) && mv $@.new $@

$(BUILD)/popd/testing.so: $(patsubst %,$(BUILD)/%.o,$(PURE) slab class copy) $(TESTING)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) -shared -o $@.new $^ $(PURE_LIBS) && mv $@.new $@

$(BUILD)/embedded.c: core/embed.lua $(MODULES)
	@mkdir -p $(@D)
	$(Q)$(GENERATOR) core/embed.lua $(MODULES) > $@.new && mv $@.new $@

$(BUILD)/embedded.o: $(BUILD)/embedded.c
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/popd-lua: $(OBJECTS) $(BUILD)/main.o $(BUILD)/embedded.o $(BUILD)/tls-$(TLS)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) -Wl,-E -o $@.new $(filter %.o,$^) $(PROGRAM_LIBS) && mv $@.new $@

-include $(wildcard $(BUILD)/*.d $(BUILD)/testing/*.d)

# Running and testing ---------------------------------------------------------

PORT = 1100

## make run        serves a small demo Maildir on PORT (1100) and, with TLS, the next; sets up what it needs
run:
	@.ci/setup build $(SETUP_$(TLS))
	@$(MAKE) --no-print-directory all
	@mkdir -p $(BUILD)/demo
	@[ -e $(BUILD)/demo/cert.pem ] || $(BUILD)/popd-lua cert --out $(BUILD)/demo localhost 127.0.0.1 >/dev/null
	@$(BUILD)/popd-lua $(AS_ROOT) examples/demo.lua $(BUILD)/demo $(PORT)

# Specs run with the built module and program before any that are installed.
SPECS    = spec
SPEC_ENV = POPD_LUA=$(CURDIR)/$(BUILD)/popd-lua POPD_BUILD=$(CURDIR)/$(BUILD) \
	LUA_PATH="$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;$(CURDIR)/spec/?.lua;;" \
	LUA_CPATH="$(CURDIR)/$(BUILD)/?.so;;"
RUN_SPECS = $(SPEC_ENV) $(WRAP) $(BUSTED) --lpath="" -o plainTerminal $(SPECS)

## make test       runs every spec, sets up what they need (SPECS=spec/pure: some)
test:
	@.ci/setup test
	@$(MAKE) --no-print-directory specs

specs: all $(BUILD)/popd/testing.so $(patsubst %,$(BUILD)/bench/%,limit load mailbox) replay
	@$(RUN_SPECS)

## make test-debian13  the specs in a Debian 13 of its own (root; needs a Debian mirror)
test-debian13:
	@[ "$$(id -u)" != 0 ] || .ci/setup debian13
	@SPECS='$(SPECS)' TLS='$(TLS)' .ci/debian13

## make peers      installs the servers that specs compare with (Courier, Postfix and Exim: unpacks them); starts none
peers:
	@.ci/setup peers
	@.ci/peers-unpacked

# Under a sanitizer the program itself runs the specs: its runtime must come
# first in a process, and preloading it would reach the clients that specs start.
define sanitize
	@.ci/setup test check
	@rm -f $(BUILD)/$(1)/report.*
	@$(MAKE) --no-print-directory specs BUILD=$(BUILD)/$(1) SAN='$(2)' CFLAGS='-O1 -g -fno-omit-frame-pointer' \
		LUA='$(BUILD)/$(1)/popd-lua --log warning $(AS_ROOT)' GENERATOR=$(LUA) WRAP='env POPD_INTERPRETER=$(CURDIR)/$(BUILD)/$(1)/popd-lua $(3)'
	@! cat $(BUILD)/$(1)/report.* 2>/dev/null
endef

## make asan       the specs under AddressSanitizer and UBSan
asan:
	$(call sanitize,asan,-fsanitize=address$(,)undefined -fno-sanitize-recover=undefined,ASAN_OPTIONS=detect_leaks=1:log_path=$(CURDIR)/$(BUILD)/asan/report UBSAN_OPTIONS=print_stacktrace=1:log_path=$(CURDIR)/$(BUILD)/asan/report)

# Lua leaves C functions by longjmp: TSan, which counts who entered, would end
# after some ten thousand waits.
## make tsan       the specs under ThreadSanitizer
tsan:
	$(call sanitize,tsan,-fsanitize=thread --param tsan-instrument-func-entry-exit=0,TSAN_OPTIONS=log_path=$(CURDIR)/$(BUILD)/tsan/report)

## make valgrind   the protocol, task and store specs under valgrind
VALGRIND_SPECS = spec/pure spec/lua spec/server
valgrind:
	@.ci/setup test check
	@$(MAKE) --no-print-directory specs SPECS='$(VALGRIND_SPECS)' \
		WRAP='valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --suppressions=spec/support/valgrind.supp'

# Measuring -------------------------------------------------------------------

## make bench-login  what a client waits while a crowd logs in with slow hashes
bench-login: all
	@$(SPEC_ENV) $(LUA) bench/login.lua

N = 200

## make bench-resting  memory that a client at rest costs, plain and with TLS
bench-resting: all
	@$(SPEC_ENV) $(LUA) bench/resting.lua $(N)

MESSAGES = 100000
ROUNDS = 7

## make bench-large  opening a Maildir of MESSAGES (100000), beside Dovecot where it is installed (make peers)
bench-large: all
	@$(SPEC_ENV) $(LUA) bench/large.lua $(MESSAGES) $(ROUNDS)

## make bench-sqlite  what a session costs with mail in memory, a Maildir, an SQLite file
bench-sqlite: all
	@$(SPEC_ENV) $(LUA) bench/sqlite.lua

# The bench's own programs; what they share with the core is buf alone.
BENCH_LIBS  = -lssl -lcrypto
$(BUILD)/bench/primitives: BENCH_LIBS = $(SHARED_$(TLS)) -lmbedx509 -lmbedcrypto
BENCH_mailbox = mailbox mail
BENCH_limit = limit convert plan mail wire
BENCH_uring = uring plan mail wire
BENCH_load  = load crowd check latency plan mail wire
BENCH_serve = serve
BENCH_counts = counts mail
BENCH_primitives = primitives primitives_$(TLS)
BENCH_PROGRAMS = $(patsubst %,$(BUILD)/bench/%,mailbox limit uring load serve primitives)

$(BUILD)/bench/%.o: bench/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

.SECONDEXPANSION:
$(BENCH_PROGRAMS): $(BUILD)/bench/%: $$(addprefix $(BUILD)/bench/,$$(addsuffix .o,$$(BENCH_$$*))) $(BUILD)/buf.o
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) -o $@.new $^ $(BENCH_LIBS) && mv $@.new $@

-include $(wildcard $(BUILD)/bench/*.d)

bench-programs: $(BENCH_PROGRAMS)

RUN_BENCH = $(SPEC_ENV) $(LUA) bench/bench.lua

## make bench      popd-lua beside the least that is possible, Dovecot and tcllib, in some seven minutes (BENCH="--only retr": some)
bench:
	@.ci/setup build $(SETUP_$(TLS)) bench
	@$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	@$(RUN_BENCH) $(BENCH)

## make bench-quick  the same in less than two minutes: shorter turns, without tcllib
bench-quick:
	@.ci/setup build $(SETUP_$(TLS)) bench
	@$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	@$(RUN_BENCH) --quick $(BENCH)

## make bench-uring  the limit by epoll and by io_uring: session and login
bench-uring:
	@.ci/setup build bench
	@$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	@$(RUN_BENCH) --only session,login --servers limit,uring --rounds 5

$(BUILD)/bench/counts: $(patsubst %,$(BUILD)/bench/%.o,$(BENCH_counts)) $(patsubst %,$(BUILD)/%.o,$(PURE))
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) -o $@.new $^ $(PURE_LIBS) && mv $@.new $@

WRITE =

## make bench-counts  instructions of the pure parts beside bench/instructions.txt (WRITE=1: writes that)
bench-counts:
	@.ci/setup build $(SETUP_$(TLS)) check
	@$(MAKE) --no-print-directory $(BUILD)/bench/counts
	@$(SPEC_ENV) $(LUA) bench/counts.lua $(if $(WRITE),write)

## make bench-primitives  what the TLS library costs by itself: handshake, records, cipher, memory
bench-primitives: all $(BUILD)/bench/primitives
	@[ -e $(BUILD)/bench/cert.pem ] || $(BUILD)/popd-lua cert --out $(BUILD)/bench localhost >/dev/null
	@$(BUILD)/bench/primitives $(BUILD)/bench/cert.pem $(BUILD)/bench/key.pem

SECONDS = 600
CLIENTS = 2000

## make soak       ten minutes of 2000 clients against callbacks that fail, wait, loop and hang: nothing may be left
soak: all
	@.ci/setup build $(SETUP_$(TLS))
	@$(SPEC_ENV) $(LUA) spec/soak/run.lua $(SECONDS) $(CLIENTS) $(SEED)

# Checking --------------------------------------------------------------------

SOURCES = $(wildcard core/*.[ch] core/testing/*.[ch] fuzz/*.[ch] bench/*.[ch])

## make check      format, lint and layers (no specs)
check: check-tools format-check lint layers
check-tools:
	@.ci/setup check

format:
	clang-format -i $(SOURCES)

format-check:
	@clang-format --dry-run -Werror $(SOURCES)
	@echo 'format: clean'

lint:
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --error-exitcode=1 --inline-suppr \
		--suppress=varFuncNullUB --suppress=toomanyconfigs -D__GNUC__ core bench
	@luacheck --no-color -q lua spec examples bench core/embed.lua
	@$(MAKE) --no-print-directory CC=clang BUILD=build/clang/openssl TLS=openssl all build/clang/openssl/bench/primitives
	@$(MAKE) --no-print-directory CC=clang BUILD=build/clang TLS=mbedtls all build/clang/popd/testing.so bench-programs build/clang/bench/counts
	@echo 'lint: clean (cppcheck, luacheck, clang -Werror)'

# What may know a TLS library: its own files, and those that stay on mbedcrypto.
OF_LIBRARIES = core/mbed.% core/mbedrest.% core/openssl.% %_mbed.c %_mbed.h %_openssl.c core/digest.c core/cert.c

# Each layer's forbidden headers; the pure part linked alone; one name exported.
forbid = @! grep -nE '^\#include [<"]($(2))' $(patsubst %,core/%.[ch],$(1)) || { echo 'layers: forbidden include'; false; }
layers: all
	$(call forbid,$(PURE),ev\.h|lua|lauxlib|mbedtls/ssl|openssl|sys/socket|netinet|unistd|time\.h|loop|net|stream|outq|log|task|conn|server)
	$(call forbid,$(IO),lua|lauxlib|command|session|say|maildrop|reply|dotstuff|task|await|source|conn|server)
	$(call forbid,$(LUAC),command|session|say|maildrop|reply|linebuf|conn|server|steps|listener)
	@! grep -nE '^\#include <(mbedtls|psa|openssl)/' $(filter-out $(OF_LIBRARIES),$(wildcard core/*.[ch])) || \
		{ echo 'layers: a TLS library outside of its files'; false; }
	@$(CC) -shared -Wl,-z,defs -o $(BUILD)/pure.so $(patsubst %,$(BUILD)/%.o,$(PURE)) $(PURE_LIBS)
	@test "$$(nm -D --defined-only $(BUILD)/popd/core.so | awk '{print $$3}')" = luaopen_popd_core || \
		{ echo 'layers: core.so exports more than luaopen_popd_core'; false; }
	@echo 'layers: hold'

# Fuzzing ---------------------------------------------------------------------

FUZZERS = $(patsubst fuzz/%.c,%,$(filter-out fuzz/replay.c,$(wildcard fuzz/*.c)))
T = 60
LEN = 4096
RUNS = -1

# The pure parts, and what else takes octets from clients apart.
FUZZED    = $(PURE) ticket ticket_mbed
FUZZ_LIBS = -lmbedtls -lmbedx509 $(PURE_LIBS)

$(BUILD)/fuzz/replay-%: fuzz/%.c fuzz/replay.c $(patsubst %,$(BUILD)/%.o,$(FUZZED))
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -fvisibility=hidden,$(ALL_CFLAGS)) -Icore -o $@ $^ $(FUZZ_LIBS)

# The corpora, through the targets, without clang.
replay: $(patsubst %,$(BUILD)/fuzz/replay-%,$(FUZZERS))
	@for f in $(FUZZERS); do $(BUILD)/fuzz/replay-$$f fuzz/corpus/$$f >$(BUILD)/replay.log 2>&1 || { cat $(BUILD)/replay.log; exit 1; }; done; echo "fuzz corpora: replayed"

build/fuzz/%: fuzz/%.c $(patsubst %,core/%.c,$(FUZZED))
	@mkdir -p $(@D)
	$(Q)clang -std=c11 -D_GNU_SOURCE -O2 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Icore \
		-o $@ $^ $(FUZZ_LIBS)

## make fuzz T=60  each fuzz target for T seconds (T=0 RUNS=n: n times), with ASan and UBSan
fuzz:
	@.ci/setup check
	@$(MAKE) --no-print-directory $(patsubst %,build/fuzz/%,$(FUZZERS))
	@for f in $(FUZZERS); do mkdir -p build/fuzz/found/$$f; echo "fuzz: $$f"; \
		build/fuzz/$$f -max_total_time=$(T) -runs=$(RUNS) -print_final_stats=1 -verbosity=0 -close_fd_mask=1 -max_len=$(LEN) \
			-artifact_prefix=build/fuzz/ build/fuzz/found/$$f fuzz/corpus/$$f 2>&1 \
			| grep -E 'number_of_executed_units|ERROR|SUMMARY|runtime error' ; \
		ls build/fuzz/crash-* build/fuzz/timeout-* build/fuzz/oom-* 2>/dev/null && exit 1 || true; done

# Installing ------------------------------------------------------------------

PREFIX = /usr/local
LUADIR = $(PREFIX)/share/lua/5.4
LIBDIR = $(PREFIX)/lib/lua/5.4
BINDIR = $(PREFIX)/bin

## make module     the module alone (what LuaRocks builds)
module: $(BUILD)/popd/core.so

## make install    the module, and popd-lua as a script, below PREFIX
install: module
	install -d $(LUADIR)/popd $(LIBDIR)/popd $(BINDIR)
	install -m 644 $(MODULES) $(LUADIR)/popd
	install -m 755 $(BUILD)/popd/core.so $(LIBDIR)/popd/core.so
	install -m 755 bin/popd-lua $(BINDIR)/popd-lua

clean:
	rm -rf build

.PHONY: all help run test test-debian13 specs bench bench-quick bench-uring bench-programs bench-counts bench-primitives bench-login bench-resting bench-large bench-sqlite soak peers asan tsan valgrind check check-tools \
	format format-check lint layers replay fuzz module install clean
.SECONDARY:
