defmodule Cryptoki.Test.EveryCall.Scenario do
  @moduledoc false
  # What users do, as a table: each is run with a fault at each of the C calls that it makes.

  alias Cryptoki.{Key, Operation}
  alias Cryptoki.Test.EveryCall.World
  alias Cryptoki.Test.{FaultyModule, SoftHSM}

  @enforce_keys [:name, :steps]
  defstruct [
    :name,
    :steps,
    token: :softhsm2,
    instance: true,
    locked: false,
    by_chance: false,
    objects: 0,
    lines: "",
    options: [],
    prepare: &__MODULE__.nothing/1,
    before: &__MODULE__.nothing/1,
    after: &__MODULE__.nothing/1
  ]

  @typedoc """
  `steps` are calls of ours, each with the C functions that do its work, a list where one of several does it,
  and how often they may run; the first that fails is the last, and `{:after, error}` is one from what came
  after the work. Their results are in the context of the next, by their names. `lines` go wrong besides.
  `options` are those of the instance that are not usual.
  `instance` is one for all runs, or none; `prepare` is done once for it, `before` and `after` at each run,
  without faults; `locked` is one that `before` leaves so. How often one that is `by_chance` calls a function
  is not the same each time. `objects` are left on the token by a whole run, before `after`.
  """
  @type t :: %__MODULE__{
          name: String.t(),
          steps: [step],
          token: atom,
          instance: boolean,
          locked: boolean,
          by_chance: boolean,
          objects: non_neg_integer,
          lines: String.t(),
          options: keyword,
          prepare: (map -> map),
          before: (map -> map),
          after: (map -> term)
        }
  @type step :: {atom, work :: %{(String.t() | [String.t()]) => pos_integer}, (map -> term)}

  @data "the data that is signed"
  @made "made"

  @doc "All of them."
  @spec all :: [t]
  def all do
    [
      connect(),
      stop(),
      sign("sign by selector", &sign_by_selector/1),
      sign("sign by %Key{}", &sign_by_key/1),
      %{sign("a login that was lost", &sign_by_key/1) | lines: "logout"},
      %{sign("a token that restarted", &sign_by_selector/1) | lines: "sessions forget"},
      context_login(),
      streamed_signature(),
      session_of_its_own(),
      generate(),
      create(),
      find_and_stream(),
      wrap_and_unwrap(),
      message(),
      unlock(),
      token_administration(),
      subscribe()
    ]
  end

  @doc "No preparation."
  @spec nothing(map) :: map
  def nothing(_context), do: %{}

  ## Instances that come and go

  defp connect do
    %__MODULE__{
      name: "connect",
      instance: false,
      steps: [{:hsm, %{}, &start/1}, {:random, %{"C_GenerateRandom" => 1}, &random/1}],
      after: fn context -> if context[:hsm], do: Cryptoki.stop(context.hsm) end
    }
  end

  defp stop do
    %__MODULE__{
      name: "stop",
      instance: false,
      before: fn context ->
        {:ok, hsm} = start(context)
        %{running: hsm}
      end,
      steps: [{:stop, %{}, &Cryptoki.stop(&1.running)}]
    }
  end

  # Not linked: it is to live on when the process of the run ends.
  defp start(context) do
    with {:ok, hsm} <- Cryptoki.start_link(context.options) do
      Process.unlink(hsm)
      {:ok, hsm}
    end
  end

  defp random(%{hsm: hsm} = context) do
    with {:ok, bytes} when byte_size(bytes) == 8 <- Cryptoki.random(hsm, 8, timed(context)),
         do: {:ok, bytes}
  end

  ## Signatures

  defp sign(name, sign) do
    %__MODULE__{name: name, prepare: &pair/1, steps: [{:sign, %{"C_Sign" => 1}, sign}]}
  end

  defp pair(%{hsm: hsm}) do
    template = [label: "key", id: <<1>>, token: true, curve: :secp256r1]
    {_public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
    # Another, that nobody asks for.
    other = [label: "other", id: <<2>>, token: true, curve: :secp256r1]
    Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, other)
    %{key: private, public: Cryptoki.public_key!(hsm, private)}
  end

  defp sign_by_selector(%{hsm: hsm} = context) do
    hsm |> Cryptoki.sign([label: "key"], :ecdsa_sha256, @data, timed(context)) |> good(context)
  end

  defp sign_by_key(%{hsm: hsm} = context) do
    hsm |> Cryptoki.sign(context.key, :ecdsa_sha256, @data, timed(context)) |> good(context)
  end

  defp context_login do
    %__MODULE__{
      name: "context login",
      prepare: fn context -> rsa(context, always_authenticate: true) end,
      steps: [
        {:sign, %{"C_Sign" => 1},
         fn %{hsm: hsm} = context ->
           answer = Cryptoki.sign(hsm, context.key, :sha256_rsa_pkcs, @data, timed(context))
           good(answer, context)
         end}
      ]
    }
  end

  defp rsa(%{hsm: hsm}, more) do
    template = [label: "rsa", id: <<1>>, token: true, modulus_bits: 2048] ++ more
    slow = [timeout: 60_000]
    {_public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template, slow)
    %{key: private, public: Cryptoki.public_key!(hsm, private)}
  end

  defp streamed_signature do
    %__MODULE__{
      name: "a streamed signature",
      prepare: &rsa(&1, []),
      steps: [
        # Where the token is said not to sign with that mechanism the hash is made here.
        {:sign, %{["C_SignFinal", "C_Sign"] => 1},
         fn %{hsm: hsm} = context ->
           stream = {:stream, String.split(@data, ~r/(?<= )/)}
           answer = Cryptoki.sign(hsm, context.key, :sha256_rsa_pkcs, stream, timed(context))
           good(answer, context)
         end}
      ]
    }
  end

  defp session_of_its_own do
    %__MODULE__{
      name: "a session of its own",
      prepare: &rsa(&1, []),
      steps: [
        {:session, %{"C_SignFinal" => 1},
         fn %{hsm: hsm} = context ->
           Cryptoki.with_session(hsm, &in_session(&1, context), timed(context))
         end}
      ]
    }
  end

  defp in_session(session, context) do
    timed = timed(context)

    with {:ok, _bytes} <- Cryptoki.random(session, 8, timed),
         {:ok, operation} <-
           Cryptoki.start(session, :sign, context.key, :sha256_rsa_pkcs, timed),
         :ok <- Operation.update(operation, @data),
         do: operation |> Operation.finish() |> good(context)
  end

  defp good({:ok, signature}, %{public: public}) do
    signature = if match?({{:ECPoint, _}, _}, public), do: der(signature), else: signature
    if :public_key.verify(@data, :sha256, signature, public), do: {:ok, signature}, else: :wrong
  end

  defp good(error, _context), do: error

  defp der(signature) do
    {r, s} = :erlang.split_binary(signature, div(byte_size(signature), 2))
    {r, s} = {:binary.decode_unsigned(r), :binary.decode_unsigned(s)}
    :public_key.der_encode(:"ECDSA-Sig-Value", {:"ECDSA-Sig-Value", r, s})
  end

  ## Objects

  defp generate do
    %__MODULE__{
      name: "generate a pair",
      objects: 2,
      steps: [
        {:pair, %{"C_GenerateKeyPair" => 1},
         fn %{hsm: hsm} = context ->
           template = [label: @made, id: <<7>>, token: true, curve: :secp256r1]
           Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, template, timed(context))
         end}
      ],
      after: &destroy_made/1
    }
  end

  defp create do
    %__MODULE__{
      name: "create and update",
      objects: 1,
      steps: [
        {:object, %{"C_CreateObject" => 1},
         fn %{hsm: hsm} = context ->
           template = [class: :data, label: @made, token: true, value: "x"]
           Cryptoki.create(hsm, template, timed(context))
         end},
        {:update, %{"C_SetAttributeValue" => 1},
         fn %{hsm: hsm, object: object} = context ->
           Cryptoki.update(hsm, object, [label: @made], timed(context))
         end}
      ],
      after: &destroy_made/1
    }
  end

  # That the token was lost its instance may hear a moment after the caller.
  defp destroy_made(%{hsm: hsm}) do
    true = World.until(fn -> destroyed?(hsm) end, 60_000)
  end

  defp destroyed?(hsm) do
    case Cryptoki.find(hsm, label: @made) do
      {:ok, made} -> Enum.all?(made, &(Cryptoki.destroy(hsm, &1) == :ok))
      {:error, _not_yet} -> false
    end
  end

  defp find_and_stream do
    %__MODULE__{
      name: "find and stream",
      prepare: &pair/1,
      steps: [
        {:find, %{},
         fn %{hsm: hsm} = context ->
           with {:ok, found} <- Cryptoki.find(hsm, [class: :private_key], timed(context)),
                do: labels(found)
         end},
        {:stream, %{},
         fn %{hsm: hsm} = context ->
           raised(fn ->
             hsm
             |> Cryptoki.stream([class: :private_key], timed(context))
             |> Enum.to_list()
             |> labels()
           end)
         end}
      ]
    }
  end

  # One that is said to be gone when it is read is left out; what cannot be read of it is not there.
  defp labels(keys) do
    labels = keys |> Enum.map(fn %Key{label: label} -> label end) |> Enum.sort()
    if labels -- ["key", "other", nil] == [], do: {:ok, labels}, else: {:wrong, labels}
  end

  # A stream has no other way to tell.
  defp raised(fun) do
    fun.()
  rescue
    error in Cryptoki.Error -> {:error, error}
  end

  defp wrap_and_unwrap do
    %__MODULE__{
      name: "wrap and unwrap",
      prepare: fn %{hsm: hsm} ->
        wrapping = [label: "wrapping", value_len: 32, wrap: true, unwrap: true, token: true]
        payload = [label: "payload", value_len: 16, extractable: true, token: true]

        %{
          wrapping: Cryptoki.generate_key!(hsm, :aes_key_gen, wrapping),
          payload: Cryptoki.generate_key!(hsm, :aes_key_gen, payload)
        }
      end,
      objects: 1,
      steps: [
        {:blob, %{"C_WrapKey" => 1},
         fn %{hsm: hsm} = c ->
           Cryptoki.wrap_key(hsm, c.wrapping, :aes_key_wrap, c.payload, timed(c))
         end},
        {:key, %{"C_UnwrapKey" => 1},
         fn %{hsm: hsm} = c ->
           template = [class: :secret_key, key_type: :aes, label: @made, token: true]
           Cryptoki.unwrap_key(hsm, c.wrapping, :aes_key_wrap, c.blob, template, timed(c))
         end}
      ],
      after: &destroy_made/1
    }
  end

  # The messages of 3.0, which SoftHSM has not.
  defp message do
    %__MODULE__{
      name: "a message",
      token: :kryoptic,
      prepare: fn %{hsm: hsm} ->
        value = :crypto.strong_rand_bytes(32)
        template = [class: :secret_key, key_type: :aes, value: value, label: "gcm", token: true]
        %{key: Cryptoki.create!(hsm, template ++ [encrypt: true]), value: value}
      end,
      steps: [
        {:message, %{"C_EncryptMessage" => 1},
         fn %{hsm: hsm} = context ->
           Cryptoki.with_session(hsm, &message(&1, context), timed(context))
         end}
      ]
    }
  end

  defp message(session, context) do
    timed = timed(context)

    with {:ok, operation} <-
           Cryptoki.start(session, :message_encrypt, context.key, :aes_gcm, timed),
         {:ok, message} <- Operation.message(operation, [iv: {:generate, 12}], "aad", @data) do
      %{iv: iv, ciphertext: text, tag: tag} = message

      opened =
        :crypto.crypto_one_time_aead(:aes_256_gcm, context.value, iv, text, "aad", tag, false)

      case Operation.finish(operation) do
        :ok when opened == @data -> {:ok, :message}
        :ok -> :wrong
        {:error, error} -> {:after, error}
      end
    end
  end

  ## Tokens and their PINs

  defp unlock do
    %__MODULE__{
      name: "unlock",
      prepare: &pair/1,
      before: &lock/1,
      locked: true,
      steps: [
        {:unlock, %{},
         fn context ->
           Cryptoki.unlock(context.hsm, context.pin, [force: true] ++ timed(context))
         end},
        {:sign, %{"C_Sign" => 1}, &sign_by_key/1}
      ]
    }
  end

  # By a refusal that SoftHSM has not heard of.
  defp lock(context) do
    FaultyModule.control(context.module, "logout\nC_Login rv=0xA0 count=1")
    _refused = sign_by_key(context)
    FaultyModule.control(context.module, "")

    case Cryptoki.status!(context.hsm) do
      %{state: :locked} -> %{}
      _not_yet -> lock(context)
    end
  end

  defp token_administration do
    # A process of its own where the instances have one.
    place =
      &([library: &1.module.library, timeout: &1.timeout] ++
          Keyword.take(&1.options, [:isolation, :memory]))

    token = [label: SoftHSM.label()]
    so_pin = [so_pin: SoftHSM.so_pin()]

    %__MODULE__{
      name: "token administration",
      instance: false,
      steps: [
        {:init, %{"C_InitToken" => 1},
         &Cryptoki.Token.init(token, token ++ so_pin ++ place.(&1))},
        {:init_pin, %{"C_InitPIN" => 1},
         &Cryptoki.Token.init_pin(token, [pin: SoftHSM.pin()] ++ so_pin ++ place.(&1))},
        {:set_pin, %{"C_SetPIN" => 1},
         &Cryptoki.Token.set_pin(token, [old: SoftHSM.pin(), new: "another PIN"] ++ place.(&1))}
      ]
    }
  end

  defp subscribe do
    %__MODULE__{
      name: "subscribe",
      by_chance: true,
      # Each run waits for two looks: as they are by default that is most of a second, 900 times.
      options: [watch: [min: 5, max: 10]],
      steps: [
        {:reference, %{}, &Cryptoki.subscribe(&1.hsm)},
        {:look, %{}, &looked/1},
        {:unsubscribe, %{}, &Cryptoki.unsubscribe(&1.hsm, &1.reference)}
      ]
    }
  end

  # The instance looks at its slots by itself while somebody listens: twice, since the first look may not have begun
  # when the fault was there, or not at all where the library does not return from one.
  defp looked(context) do
    _twice = World.until(fn -> looks(context) >= 2 end, context.timeout)
    :ok
  end

  defp looks(context) do
    context.module
    |> FaultyModule.since(context.mark)
    |> Enum.count(fn {name, event, _} -> name == "C_GetSlotList" and event != "denied" end)
  end

  defp timed(context), do: [timeout: context.timeout]
end
