defmodule Cryptoki.Import do
  @moduledoc false
  # A private key of a file into a token: made, proven to be that one, and its public half beside it; or
  # nothing. When a later step fails, for whatever reason, what was made before it is destroyed again.

  require Logger

  alias Cryptoki.{
    Attribute,
    Call,
    Error,
    HSM,
    Key,
    Names,
    Options,
    PrivateKey,
    PublicHalf,
    Target
  }

  alias Cryptoki.Import.{Made, PostQuantum, Proof, Public, Secret, Source, Template, Wrapped}
  alias Cryptoki.Native.Wait

  @spec import_key(Cryptoki.hsm(), Source.t(), Attribute.template(), keyword | map) ::
          {:ok, Key.t() | {Key.t(), [binary]}} | {:error, Error.t()}
  def import_key(hsm, given, template, opts) do
    options = Options.call!(opts, [:timeout, :metadata, :password, :how])
    given = Source.given!(given)
    wished = Template.wished!(template, given)

    with {:ok, target} <- HSM.target(hsm, options),
         {:ok, {key, certificates}} <- Source.read(given, options.password),
         templates = templates(Source.class(key), key, wished),
         :ok <- provable(templates),
         :ok <- in_time(target) do
      told(target, templates)
      target = %{target | timeout: options.timeout || target.timeout}

      with {:ok, made} <- create(hsm, target, key, templates, options.how),
           do: {:ok, if(certificates, do: {made, certificates}, else: made)}
    end
  end

  defp templates(:private_key, key, wished), do: Template.pair(key, wished)
  defp templates(:public_key, key, wished), do: Template.public(key, wished)
  defp templates(:secret_key, key, wished), do: Template.secret(key, wished)

  defp provable({template, _public}) do
    text =
      "that the token has this key cannot be proven, and nothing was made: always_authenticate: true wants " <>
        "its PIN at each use, which is not spent on a proof"

    if Attribute.encode!(always_authenticate: true) -- template == [],
      do: {:error, Error.new(:unsupported, text)},
      else: :ok
  end

  defp provable(_of_one_key), do: :ok

  # A password takes as long as the file says.
  defp in_time(target) do
    text = "it was over when the file was read; nothing was made"

    if Wait.remaining(target.deadline) == 0,
      do: {:error, Error.new(:timeout, text, executed: false)},
      else: :ok
  end

  # Two keys of one name are no error, until somebody asks for one of them.
  defp told(target, {private, _public}), do: told(target, private)
  defp told(target, [[_ | _] = form | _forms]), do: told(target, form)

  defp told(target, template) do
    [class, label, id] = codes = Attribute.types!([:class, :label, :id])
    asked = for {code, value} <- template, code in codes, do: {code, value}
    said = Map.merge(%{label => "", id => ""}, Map.new(asked))

    with true <- said[label] != "" or said[id] != "",
         {:ok, [_ | _]} <- Call.run(target, {:find, asked, 1}) do
      Logger.warning(
        "cryptoki #{inspect(Target.called(target))}: import_key: there is " <>
          "#{Names.in_words(Names.name(:class, said[class]))} with the label #{inspect(said[label])} " <>
          "and the id of this one already; a selector that says no more finds both"
      )
    end
  end

  ## Making

  defp create(_hsm, target, key, [[_ | _] | _] = forms, _how),
    do: Public.create(target, key, forms)

  defp create(hsm, target, key, [_ | _] = template, how) do
    with {:ok, made} <- made(target, template, key, how),
         :ok <- hsm |> Secret.prove(target, made, key) |> Made.undone(target, made),
         do: {:ok, made.key}
  end

  defp create(_hsm, target, key, {private, public}, how) do
    with {:ok, made} <- made(target, private, key, how),
         :ok <- target |> proven(made, key, public) |> Made.undone(target, made),
         do: {:ok, made.key}
  end

  @doc "Proves that the token has a private key, and makes its public one of the first form that verifies."
  @spec proven(Target.t(), Made.t(), PrivateKey.t(), Template.forms() | nil) ::
          :ok | {:error, Error.t()}
  def proven(target, made, %{type: type} = key, public)
      when type in [:ml_dsa, :ml_kem, :slh_dsa] do
    with {:ok, bytes} <- PostQuantum.prove(target, made, key),
         do: PostQuantum.twin(target, public, bytes)
  end

  def proven(target, made, key, public) do
    with {:ok, proof} <- Proof.make(target, made.handle, key), do: twin(target, public, proof)
  end

  defp made(target, template, _key, :create), do: Made.new(target, template)
  defp made(target, template, key, :unwrap), do: Wrapped.new(target, template, key)

  defp made(target, template, key, :auto) do
    with {:error, refusal} <- Made.new(target, template) do
      if refusal.function == :C_CreateObject and Wrapped.refused?(refusal),
        do: target |> Wrapped.new(template, key) |> or_refused(refusal),
        else: {:error, refusal}
    end
  end

  # What the token said of the value is what is the matter, where it cannot be brought in otherwise.
  defp or_refused({:error, %Error{reason: :unsupported, function: nil} = error}, refusal) do
    detail = Enum.join(Enum.reject([refusal.detail, error.detail], &is_nil/1), "; ")
    {:error, %{refusal | detail: detail}}
  end

  defp or_refused(made, _refusal), do: made

  defp twin(_target, nil, _proof), do: :ok

  defp twin(target, [only], proof) do
    case tried(target, only, proof) do
      {:refused, _made} -> :ok
      {:no, made} -> with :ok <- taken_away(target, made), do: misbehaved()
      ok_or_error -> ok_or_error
    end
  end

  # The form that verifies; the standard's where the token verifies nothing with any.
  defp twin(target, [standard, other], proof) do
    with {first, made} when first != :error <- tried(target, standard, proof),
         :ok <- taken_away(target, made),
         {second, made} when second != :error <- target |> tried(other, proof) |> not_taken(),
         :ok <- taken_away(target, made) do
      if {first, second} == {:refused, :refused},
        do: with({:ok, _made} <- Made.new(target, standard), do: :ok),
        else: misbehaved()
    end
  end

  defp tried(target, form, proof) do
    with {:ok, made} <- Made.new(target, form),
         verdict when verdict in [:no, :refused] <-
           target |> Proof.confirms(made.handle, proof) |> Made.undone(target, made),
         do: {verdict, made}
  end

  defp not_taken({:error, %Error{function: :C_CreateObject} = error}),
    do: if(PublicHalf.Proof.refused?(error), do: {:refused, nil}, else: {:error, error})

  defp not_taken(another), do: another

  defp taken_away(_target, nil), do: :ok

  # As if it had failed, and nothing is left of it.
  defp taken_away(target, made) do
    with {:error, error} = unchanged <- Made.undone(misbehaved(), target, made),
         do: if(error.executed == false, do: :ok, else: unchanged)
  end

  defp misbehaved do
    text = "the token took the public key, and verifies no signature of the private one with it"
    {:error, Error.new(:module_misbehaved, text, executed: false)}
  end
end
