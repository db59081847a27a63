-module(signer_SUITE).
-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([signs/1, says_what_is_wrong/1]).

all() -> [signs, says_what_is_wrong].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(signer),
    Template = #{label => <<"signer">>, id => <<1>>, token => true, curve => secp256r1},
    {ok, _} = cryptoki:generate_key_pair(hsm, ec_key_pair_gen, Template),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(signer).

signs(_Config) ->
    {ok, Signature} = signer:sign([<<"an ">>, "invoice"]),
    {ok, PublicKey} = cryptoki:public_key(hsm, #{label => <<"signer">>}),
    ?assert(public_key:verify(<<"an invoice">>, sha256, Signature, PublicKey)).

says_what_is_wrong(_Config) ->
    {error, {key_not_found, _} = Reason} = cryptoki:sign(hsm, #{id => <<2>>}, ecdsa, <<>>),
    ?assertMatch(<<"nothing matches the selector", _/binary>>, cryptoki:format_error(Reason)).
