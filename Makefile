# popd-lua.  `make help` lists the targets.

VERSION  = dev
LUA      = lua5.4
BUSTED   = $(LUA) $$(command -v busted)
CC       = gcc
CFLAGS   = -O2 -g
WARN     = -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
BUILD    = build
SAN      =
Q        = @

# Where Debian has Lua's headers; elsewhere: make LUA_INCDIR=…
LUA_INCDIR = /usr/include/lua5.4

# The module links to shared libraries; the program carries its own, so that it
# can be copied alone.
MODULE_LIBS  = -lev -lmbedcrypto
PROGRAM_LIBS = -l:liblua5.4.a -l:libev.a -l:libmbedcrypto.a -lm -ldl

# The layers; `make layers` proves that nothing calls up.
PURE  = buf linebuf command reply maildrop digest proxyproto dotstuff session
IO    = loop net stream outq log
LUAC  = task await source fs
JOINT = listener conn steps view server module

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -fno-strict-aliasing $(WARN) $(CFLAGS) $(SAN) \
	-DPOPD_VERSION='"$(VERSION)"' -I$(LUA_INCDIR)
OBJECTS = $(patsubst %,$(BUILD)/%.o,$(PURE) $(IO) $(LUAC) $(JOINT))
MODULES = $(wildcard lua/popd/*.lua)

all: $(BUILD)/popd/core.so $(BUILD)/popd-lua

help:
	@echo 'make            the module and the program, in $(BUILD)/'
	@echo 'make run        serves a small demo Maildir'
	@echo 'make test       every spec'
	@echo 'make check      format, lint, layers'

$(BUILD)/%.o: core/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/popd/core.so: $(OBJECTS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) $(LIBFLAG) -shared -o $@ $^ $(MODULE_LIBS)

$(BUILD)/popd/testing.so: $(patsubst %,$(BUILD)/%.o,$(PURE) testing)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) -shared -o $@ $^ -lmbedcrypto

$(BUILD)/embedded.c: core/embed.lua $(MODULES)
	@mkdir -p $(@D)
	$(Q)$(LUA) core/embed.lua $(MODULES) > $@.new && mv $@.new $@

$(BUILD)/embedded.o: $(BUILD)/embedded.c
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/popd-lua: $(OBJECTS) $(BUILD)/main.o $(BUILD)/embedded.o
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) -Wl,-E -o $@ $^ $(PROGRAM_LIBS)

-include $(wildcard $(BUILD)/*.d)

clean:
	rm -rf build

.PHONY: all help clean
