%% The Erlang door to the administration of tokens; see cryptoki.erl.
-module(cryptoki_token).

-include("cryptoki.hrl").

?MODULEDOC("
Administration of tokens, without an instance: making one, setting its PINs.

Each function takes the slot first: its id, `free` for the first slot whose token is not initialised
yet, or the token as `token` of `cryptoki:start_link/1` names it. PINs are given as there.
").

-export([init/2, init_pin/2, set_pin/2]).
-export_type([slot/0]).

-type slot() :: non_neg_integer() | free | map() | unicode:chardata().

?DOC("
Initialises a token: everything on it is destroyed, it gets a label and, when it is new, the PIN of
its security officer. `timeout` is in milliseconds.

Errors: `token_absent`, `pin_incorrect`, `session_exists`. PKCS #11 v3.2, section 5.5.7.

    ok = cryptoki_token:init(free, #{library => Library, label => <<\"payments\">>, so_pin => SoPin}).
").
-spec init(slot(), #{label := binary(), so_pin := cryptoki:pin(), library => file:name_all(),
                     init_args => unicode:chardata(), timeout => timeout()}) -> ok | cryptoki:error().
init(Slot, Options) -> call(init, [Slot, Options]).

?DOC("
Sets the PIN of the user, as the security officer.

Errors: `pin_incorrect` for the security officer's, `pin_len_range`, `pin_invalid` for the new one.
PKCS #11 v3.2, section 5.5.8.

    ok = cryptoki_token:init_pin(#{label => <<\"payments\">>}, #{library => Library, so_pin => SoPin, pin => Pin}).
").
-spec init_pin(slot(), #{so_pin := cryptoki:pin(), pin := cryptoki:pin(), library => file:name_all(),
                         init_args => unicode:chardata(), timeout => timeout()}) -> ok | cryptoki:error().
init_pin(Slot, Options) -> call(init_pin, [Slot, Options]).

?DOC("
Changes a PIN: the user's, or with `user => so` the security officer's.

Errors: `pin_incorrect` for the old one, `pin_len_range`, `pin_invalid` for the new one. PKCS #11
v3.2, section 5.5.9.

    ok = cryptoki_token:set_pin(#{label => <<\"payments\">>}, #{library => Library, old => Pin, new => NewPin}).
").
-spec set_pin(slot(), #{old := cryptoki:pin(), new := cryptoki:pin(), user => user | so,
                        library => file:name_all(), init_args => unicode:chardata(),
                        timeout => timeout()}) -> ok | cryptoki:error().
set_pin(Slot, Options) -> call(set_pin, [Slot, Options]).

call(Function, Arguments) ->
    'Elixir.Cryptoki.Erlang':call('Elixir.Cryptoki.Token', Function, {?MODULE, Function}, Arguments).
