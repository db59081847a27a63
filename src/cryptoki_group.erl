%% The Erlang door to groups of instances; see cryptoki.erl.
-module(cryptoki_group).

-include("cryptoki.hrl").

?MODULEDOC("
One name for several instances that hold the same keys: of different tokens, libraries and nodes. Every function of
`cryptoki` takes a group where it takes an instance; the Elixir module `Cryptoki.Group` says what each does there.

    {ok, _} = cryptoki_group:start_link(#{name => hsms, members => [hsm1, hsm2, {hsm, 'b@host'}], writes => hsm1}),
    {ok, Signature} = cryptoki:sign(hsms, #{label => <<\"invoice\">>}, sha256_rsa_pkcs, Data).

An error of a call to a group has the member that answered as `member` in its map.
").

-export([start_link/1, child_spec/1, status/1, compare/1, compare/2, compare/3, await_key/2, await_key/3]).
-export_type([group/0, member/0, options/0]).

-type group() :: atom() | pid() | {atom(), node()}.
-type member() :: atom() | pid() | {atom(), node()}.
-type options() ::
    #{name => atom(),
      members := [member()] | {pg, term()} | {pg, atom(), term()},
      writes => member(),
      failover => #{sign => boolean(), encrypt => boolean(), wrap_key => boolean()},
      timeout => timeout(),
      reconnect => #{min => pos_integer(), max => pos_integer()}}.

?DOC("Starts a group of instances. They need not be there yet.

    1> {ok, Group} = cryptoki_group:start_link(#{members => [hsm], writes => hsm}).
    2> {ok, <<_:64>>} = cryptoki:random(Group, 8).
    3> ok = cryptoki:stop(Group).").
-spec start_link(options()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Options) -> call(start_link, [Options]).

?DOC("The child of a supervisor, after its members of this node.

    1> #{id := hsms, type := worker} = cryptoki_group:child_spec(#{name => hsms, members => [hsm]}).").
-spec child_spec(options()) -> supervisor:child_spec().
child_spec(Options) ->
    #{start := {_, start_link, Checked}} = Spec = call(child_spec, [Options]),
    Spec#{start := {?MODULE, start_link, Checked}}.

?DOC("What the group knows of itself: its `members` with state, share of the calls and the error that they are out
for, how many are `in`, what is `left` when one more goes, and the `keys` that are not everywhere.

Errors: `shutdown`.

    1> {ok, Group} = cryptoki_group:start_link(#{members => [hsm]}).
    2> {ok, #{in := 1, left := #{members := 0}}} = cryptoki_group:status(Group).
    3> ok = cryptoki:stop(Group).").
-spec status(group()) -> {ok, map()} | cryptoki:error().
status(Group) -> call(status, [Group]).

?DOC("What the members have, side by side: how many objects are the `same`, the `differences`, and the members that
are `unreachable`. PKCS #11 v3.2, sections 5.7.5 and 5.7.7.

    1> {ok, Group} = cryptoki_group:start_link(#{members => [hsm]}).
    2> {ok, #{same := 1, differences := []}} = cryptoki_group:compare(Group, #{label => <<\"archive\">>}, #{}).
    3> ok = cryptoki:stop(Group).").
-spec compare(group(), cryptoki:selector(), #{timeout => timeout()}) -> {ok, map()} | cryptoki:error().
compare(Group, Selector, Options) -> call(compare, [Group, Selector, Options]).

?SAME_AS("compare/3").
-spec compare(group(), cryptoki:selector()) -> {ok, map()} | cryptoki:error().
compare(Group, Selector) -> compare(Group, Selector, #{}).

?SAME_AS("compare/3").
-spec compare(group()) -> {ok, map()} | cryptoki:error().
compare(Group) -> compare(Group, #{token => true}).

?DOC("Waits, in milliseconds, until every member has what the selector finds, and the same.

Errors: `timeout`. PKCS #11 v3.2, section 5.7.7.

    1> {ok, Group} = cryptoki_group:start_link(#{members => [hsm]}).
    2> ok = cryptoki_group:await_key(Group, #{label => <<\"archive\">>}, 5000).
    3> ok = cryptoki:stop(Group).").
-spec await_key(group(), cryptoki:selector(), timeout()) -> ok | cryptoki:error().
await_key(Group, Selector, Timeout) -> call(await_key, [Group, Selector, Timeout]).

?SAME_AS("await_key/3").
-spec await_key(group(), cryptoki:selector()) -> ok | cryptoki:error().
await_key(Group, Selector) -> await_key(Group, Selector, 5000).

call(Function, Arguments) ->
    'Elixir.Cryptoki.Erlang':call('Elixir.Cryptoki.Group', Function, {?MODULE, Function}, Arguments).
