defmodule Cryptoki.Test.Referee do
  @moduledoc false
  # The case template of the referee tests: each runs once per token, and what a token lacks is recorded.
  #
  #     use Cryptoki.Test.Referee
  #
  #     on_each_token do
  #       check "SHA-256", [sha256: :digest], %{hsm: hsm} do
  #         assert Cryptoki.digest!(hsm, :sha256, "abc") == :crypto.hash(:sha256, "abc")
  #       end
  #     end
  #
  # A check whose mechanisms the token does not list is left out; it is skipped where no token has them. Behind the mechanisms
  # `refused: [softhsm2: :arguments_bad]` says which error a token may answer all the same, and
  # `except: [softhsm2: "why"]` that it is known to do something else: both are recorded too.
  #
  # Keys that all checks of a module share come from its `setup_all`, which answers
  # `keys(hsms, fn hsm, token -> %{rsa: ...} end)`.

  use ExUnit.CaseTemplate

  alias Cryptoki.Error
  alias Cryptoki.Test.Token

  using options do
    tokens = Keyword.get(options, :tokens, :whole)

    quote do
      @tokens unquote(tokens)
      @doc false
      def tokens, do: @tokens

      import Bitwise
      import Cryptoki.Test.Referee

      alias Cryptoki.Error
      alias Cryptoki.Test.{OpenSSL, Outside, Token}

      Token.takes_part(__MODULE__)
    end
  end

  setup_all context do
    {hsms, _log} =
      ExUnit.CaptureLog.with_log(fn ->
        for token <- Token.all(context.module.tokens()), into: %{} do
          child = {Cryptoki, Token.options(token, sessions: 3)}
          {token.name, start_supervised!(child, id: token.name)}
        end
      end)

    %{hsms: hsms}
  end

  setup context do
    hsm = context[:hsms][context[:token]]
    Map.merge(get_in(context, [:keys, context[:token]]) || %{}, %{hsm: hsm})
  end

  @doc "Runs the checks in the block on each token of the run."
  defmacro on_each_token(do: block) do
    quote do
      for token <- Token.all(@tokens) do
        @token token

        describe @token.title do
          @describetag token: @token.name
          unquote(block)
        end
      end
    end
  end

  @doc "A test that needs these mechanisms of the token."
  defmacro check(text, needs, options \\ [], context \\ quote(do: %{}), do: block) do
    {options, context} = if Keyword.keyword?(options), do: {options, context}, else: {[], options}

    quote bind_quoted: [
            text: text,
            needs: needs,
            options: options,
            context: Macro.escape(context, unquote: true),
            block: Macro.escape(block, unquote: true)
          ] do
      @text text
      @needs needs
      @refused options[:refused][@token.name]

      except = options[:except][@token.name]

      case Token.missing(@token, needs) do
        [] when except != nil ->
          Token.record(@token, {:refuses, @text, except}, needs)

        [] ->
          test text, tested do
            unquote(context) = tested
            judge(@token, @text, @needs, @refused, fn -> unquote(block) end)
          end

        missing ->
          Token.record(@token, :lacks, missing)

          # Where no token has them its body is compiled all the same.
          if @token == hd(Token.all(@tokens)) and
               Enum.all?(Token.all(@tokens), &(Token.missing(&1, needs) != [])) do
            @tag skip: Token.absent(missing).skip
            test text, tested do
              unquote(context) = tested
              unquote(block)
            end
          end
      end
    end
  end

  @doc "Runs the body of a check and records the outcome."
  @spec judge(Token.t(), String.t(), Token.needs(), [atom] | atom, (() -> term)) :: term
  def judge(token, text, needs, refused, body) do
    body.()
    Token.record(token, :checked, needs)
  rescue
    error in Error ->
      unless error.reason in List.wrap(refused), do: reraise(error, __STACKTRACE__)
      Token.record(token, {:refuses, text, "#{error.function} says #{error.reason}"}, needs)
  end

  @doc "Keys (or anything else) for each token; they are in the context of its checks."
  @spec keys(map, (pid, Token.t() -> map)) :: map
  def keys(hsms, make) do
    tokens = Enum.filter(Token.all(:every), &is_map_key(hsms, &1.name))
    %{keys: for(token <- tokens, into: %{}, do: {token.name, make.(hsms[token.name], token)})}
  end

  ## Data. ExUnit seeds `:rand` in every test: `mix test --seed` brings the same back.

  @doc "Lengths at the edges of blocks and buffers, and one by chance."
  @spec sizes :: [non_neg_integer]
  def sizes, do: [0, 1, 15, 16, 17, 4096, 65_537, :rand.uniform(10_000)]

  @doc "Bytes by chance."
  @spec bytes(non_neg_integer) :: binary
  def bytes(0), do: ""
  def bytes(size), do: :rand.bytes(size)

  @doc "The same with one bit, by chance, changed."
  @spec flip(binary) :: binary
  def flip(binary), do: flip(binary, :rand.uniform(byte_size(binary)) - 1)

  @doc "The same with one bit of the byte at `position` changed."
  @spec flip(binary, non_neg_integer) :: binary
  def flip(binary, position) do
    {before, <<byte, rest::binary>>} = :erlang.split_binary(binary, position)
    <<before::binary, Bitwise.bxor(byte, Bitwise.bsl(1, :rand.uniform(8) - 1)), rest::binary>>
  end

  @doc "The same with a bit of its last byte changed: in what is signed that is one of the signature."
  @spec spoilt(binary) :: binary
  def spoilt(der), do: flip(der, byte_size(der) - 1)

  @doc "The same in chunks by chance, some of them empty, some iolists."
  @spec chunks(binary) :: [iodata]
  def chunks(""), do: [""]

  def chunks(binary) do
    size = min(:rand.uniform(byte_size(binary) + 1) - 1, :rand.uniform(100_000))
    {chunk, rest} = :erlang.split_binary(binary, size)
    chunk = if rem(size, 2) == 1, do: [chunk, []], else: chunk
    if rest == "", do: [chunk], else: [chunk | chunks(rest)]
  end

  @doc "Bytes written as hexadecimal digits, in as many pieces as it takes."
  @spec hex(String.t()) :: binary
  def hex(text), do: text |> String.replace(~r/\s/, "") |> Base.decode16!(case: :mixed)

  @doc "DES keys have a bit of parity in each byte."
  @spec odd_parity(binary) :: binary
  def odd_parity(key) do
    for <<bits::7, _parity::1 <- key>>, into: <<>> do
      ones = bits |> Integer.digits(2) |> Enum.sum()
      <<bits::7, 1 - rem(ones, 2)::1>>
    end
  end

  ## Keys whose bytes are known outside

  @doc "A secret key of these bytes that can do what is said, and be read."
  @spec secret(term, atom, binary, keyword) :: Cryptoki.Key.t()
  def secret(hsm, key_type, value, may) do
    template = [
      class: :secret_key,
      key_type: key_type,
      value: value,
      sensitive: false,
      extractable: true
    ]

    Cryptoki.create!(hsm, template ++ may)
  end

  @doc "What is in a key that can be read."
  @spec value(term, Cryptoki.Key.t()) :: binary
  def value(hsm, key) do
    %{value: value} = Cryptoki.attributes!(hsm, key, [:value])
    value
  end

  @doc "The template of an RSA private key of `:public_key`."
  @spec rsa_private(:public_key.rsa_private_key()) :: keyword
  def rsa_private({:RSAPrivateKey, _version, n, e, d, p, q, dp, dq, qi, _others}) do
    [
      class: :private_key,
      key_type: :rsa,
      modulus: n,
      public_exponent: e,
      private_exponent: d,
      prime_1: p,
      prime_2: q,
      exponent_1: dp,
      exponent_2: dq,
      coefficient: qi
    ]
  end

  @doc "The template of its public half."
  @spec rsa_public(:public_key.rsa_private_key()) :: keyword
  def rsa_public({:RSAPrivateKey, _version, n, e, _d, _p, _q, _dp, _dq, _qi, _others}),
    do: [class: :public_key, key_type: :rsa, modulus: n, public_exponent: e]

  @doc "The token says no, in any of its ways; not with an error of ours such as `:timeout`."
  defmacro assert_refused(call) do
    quote do
      assert {:error, %Error{} = error} = unquote(call)
      assert error.code != nil, "not the token's own: #{Exception.message(error)}"
      error
    end
  end
end
