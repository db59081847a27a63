defmodule Cryptoki.Erlang do
  @moduledoc false
  # Behind the Erlang modules `cryptoki`, `cryptoki_operation`, `cryptoki_token` and `cryptoki_group`: calls the Elixir
  # function of the same name and turns what differs. Maps stand for keyword lists, errors are
  # `{error, {Reason, Info}}`, and a mistake in the call is `badarg` with the argument that is to
  # blame (EEP 54). The arguments themselves are never in the stack trace: a PIN may be among them.

  alias Cryptoki.{Attribute, Error, Group, Import, Keys, KeyTemplate, Operation, Options, Token}

  # What the arguments are of which functions: how each is turned, and checked when it is wrong.
  @functions [
    {Cryptoki, ~w[start_link child_spec]a, ~w[start]a},
    {Cryptoki, ~w[stop status subscribe]a, ~w[hsm]a},
    {Cryptoki, ~w[unsubscribe]a, ~w[hsm reference]a},
    {Cryptoki, ~w[unlock]a, ~w[hsm pin opts]a},
    {Cryptoki, ~w[library_info token_info mechanisms]a, ~w[hsm opts]a},
    {Cryptoki, ~w[session_info validation_flags]a, ~w[hsm opts]a},
    {Cryptoki, ~w[slots]a, ~w[hsm_or_library opts]a},
    {Cryptoki, ~w[mechanism_info]a, ~w[hsm mechanism opts]a},
    {Cryptoki, ~w[find find_one stream size destroy]a, ~w[hsm selector opts]a},
    {Cryptoki, ~w[public_key certificate check_value]a, ~w[hsm selector opts]a},
    {Cryptoki, ~w[attributes]a, ~w[hsm selector names opts]a},
    {Cryptoki, ~w[update copy]a, ~w[hsm selector template opts]a},
    {Cryptoki, ~w[create]a, ~w[hsm template opts]a},
    {Cryptoki, ~w[import_certificate]a, ~w[hsm certificate template opts]a},
    {Cryptoki, ~w[import_key]a, ~w[hsm file import opts]a},
    {Cryptoki, ~w[generate_key]a, ~w[hsm mechanism template opts]a},
    {Cryptoki, ~w[generate_key_pair]a, ~w[hsm mechanism pair opts]a},
    {Cryptoki, ~w[sign encrypt decrypt]a, ~w[hsm selector mechanism data opts]a},
    {Cryptoki, ~w[sign_recover verify_recover]a, ~w[hsm selector mechanism data opts]a},
    {Cryptoki, ~w[verify valid?]a, ~w[hsm selector mechanism data data opts]a},
    {Cryptoki, ~w[encrypt_stream decrypt_stream]a, ~w[hsm selector mechanism chunks opts]a},
    {Cryptoki, ~w[digest]a, ~w[hsm mechanism data opts]a},
    {Cryptoki, ~w[random]a, ~w[hsm count opts]a},
    {Cryptoki, ~w[seed_random]a, ~w[hsm data opts]a},
    {Cryptoki, ~w[wrap_key]a, ~w[hsm selector mechanism selector opts]a},
    {Cryptoki, ~w[unwrap_key decapsulate_key]a, ~w[hsm selector mechanism data template opts]a},
    {Cryptoki, ~w[derive_key encapsulate_key]a, ~w[hsm selector mechanism template opts]a},
    {Cryptoki, ~w[with_session]a, ~w[hsm function opts]a},
    {Cryptoki, ~w[start]a, ~w[session kind selector mechanism opts]a},
    {Operation, ~w[update]a, ~w[operation data]a},
    {Operation, ~w[message]a, ~w[operation parameters data data]a},
    {Operation, ~w[finish]a, ~w[operation signature]a},
    {Operation, ~w[cancel save]a, ~w[operation]a},
    {Operation, ~w[restore]a, ~w[session kind data opts]a},
    {Token, ~w[init init_pin set_pin]a, ~w[slot opts]a},
    {Group, ~w[start_link child_spec]a, ~w[start_group]a},
    {Group, ~w[status]a, ~w[group]a},
    {Group, ~w[compare]a, ~w[group selector opts]a},
    {Group, ~w[await_key]a, ~w[group selector timeout]a}
  ]
  @arguments for {module, functions, arguments} <- @functions,
                 function <- functions,
                 into: %{},
                 do: {{module, function}, arguments}

  @typedoc "An error as Erlang sees it."
  @type error :: {Error.reason(), %{atom => term}}

  @doc "Calls `module.function` for the Erlang function that `from` names, for messages."
  @spec call(module, atom, {module, atom}, [term]) :: term
  def call(module, function, {_module, _name} = from, arguments) do
    kinds = Map.fetch!(@arguments, {module, function})

    guarded(from, kinds, arguments, fn ->
      module |> apply(function, turn(kinds, arguments)) |> answer()
    end)
  end

  @doc "Consumes a stream: the `Enum.reduce/3` of Erlang, with errors as answers."
  @spec fold((term, acc -> acc), acc, Enumerable.t()) :: {:ok, acc} | {:error, error}
        when acc: term
  def fold(fun, acc, stream) do
    {:ok, Enum.reduce(lazy(stream), acc, fun)}
  catch
    :error, %Error{} = error -> {:error, error(error)}
  end

  @doc "The sentence of an error, in any form it is met in."
  @spec message(term) :: String.t()
  def message({:error, reason}), do: message(reason)
  def message(%Error{} = error), do: Exception.message(error)

  def message({reason, %{code: _, function: _} = info}),
    do: Error |> struct!(Map.put(info, :reason, reason)) |> Exception.message()

  def message(reason) when is_atom(reason), do: reason |> Error.new() |> Exception.message()
  def message(other), do: "not an error of cryptoki: " <> inspect(other)

  ## Arguments

  defp turn([kind | kinds], [argument | arguments]),
    do: [turn_one(kind, argument) | turn(kinds, arguments)]

  defp turn(_kinds, []), do: []

  defp turn_one(:opts, options) when is_map(options), do: Map.to_list(options)

  defp turn_one(:hsm_or_library, options) when is_map(options) and not is_struct(options),
    do: Map.to_list(options)

  defp turn_one(:slot, token) when is_map(token) and not is_struct(token), do: Map.to_list(token)
  defp turn_one(:data, {:stream, chunks}), do: {:stream, lazy(chunks)}
  defp turn_one(:chunks, chunks), do: lazy(chunks)
  defp turn_one(_kind, argument), do: argument

  # Erlang's lazy lists: a function without arguments that gives [] or [Chunk | Function].
  defp lazy(next) when is_function(next, 0), do: Stream.unfold(next, &step/1)
  defp lazy(chunks), do: chunks

  defp step(next) when is_function(next, 0), do: step(next.())
  defp step([]), do: nil
  defp step([chunk | next]), do: {chunk, next}

  ## Answers

  defp answer({:error, %Error{} = error}), do: {:error, error(error)}

  defp answer({:ok, %{reason: %Error{} = error} = status}),
    do: {:ok, %{status | reason: error(error)}}

  # What a group says of its members.
  defp answer({:ok, %{members: _} = status}), do: {:ok, inside(status)}
  defp answer({:ok, %{differences: _} = compared}), do: {:ok, inside(compared)}

  # Slots, of which some may not answer.
  defp answer({:ok, [%{token: _} = first | _] = slots}) when not is_struct(first),
    do: {:ok, Enum.map(slots, fn slot -> Map.update!(slot, :token, &answer/1) end)}

  defp answer(other), do: other

  defp inside(%Error{} = error), do: error(error)

  defp inside(%{} = map) when not is_struct(map),
    do: Map.new(map, fn {k, v} -> {k, inside(v)} end)

  defp inside(list) when is_list(list), do: Enum.map(list, &inside/1)
  defp inside({name, value}), do: {name, inside(value)}
  defp inside(other), do: other

  # Only groups have members.
  defp error(%Error{reason: reason, member: member} = error) do
    info = Map.take(error, [:code, :function, :executed, :detail])
    {reason, if(member == nil, do: info, else: Map.put(info, :member, member))}
  end

  ## Mistakes

  # Only what Elixir raised: the badarg of a function that the caller gave is the caller's.
  defp guarded(from, kinds, arguments, fun) do
    fun.()
  catch
    :error, %ArgumentError{message: message} ->
      blamed = blame(kinds, arguments, message)
      raise_for(:badarg, from, arguments, %{blamed => message}, __STACKTRACE__)

    :error, %Error{} = error ->
      cause = %{general: Exception.message(error)}
      raise_for(error(error), from, arguments, cause, __STACKTRACE__)
  end

  @spec raise_for(term, {module, atom}, [term], map, Exception.stacktrace()) :: no_return
  defp raise_for(reason, {module, name}, arguments, cause, stack) do
    info = [error_info: %{module: :cryptoki, cause: cause}]
    :erlang.raise(:error, reason, [{module, name, length(arguments), info} | callers(stack)])
  end

  defp callers(stack) do
    stack
    |> Enum.drop_while(&(elem(&1, 0) != __MODULE__))
    |> Enum.drop_while(&(elem(&1, 0) == __MODULE__))
  end

  # The argument that is wrong when looked at alone, in the same words; else nobody knows which.
  defp blame(kinds, arguments, message) do
    kinds
    |> Enum.zip(turn(kinds, arguments))
    |> Enum.find_index(fn {kind, argument} -> complaint(kind, argument) == message end)
    |> case do
      nil -> if message =~ ~r/^(unknown option|\w+: )/, do: options(kinds), else: :general
      index -> index + 1
    end
  end

  defp options(kinds) do
    if index = Enum.find_index(kinds, &(&1 == :opts)), do: index + 1, else: :general
  end

  defp complaint(kind, argument) do
    _ = check(kind, argument)
    nil
  rescue
    error in ArgumentError -> error.message
  end

  defp check(:start, options), do: Options.start!(options)
  defp check(:start_group, options), do: Group.child_spec(options)
  defp check(:selector, selector), do: Keys.wanted!(selector, :any)
  defp check(:mechanism, mechanism), do: Keys.mechanism!(mechanism)
  defp check(:template, template), do: Attribute.encode!(template)
  defp check(:pair, template), do: template_of_pair(template)
  defp check(:certificate, given), do: Import.Certificate.given!(given)
  defp check(:file, given), do: Import.Source.given!(given)
  defp check(:import, template), do: Import.Template.wished!(template, "a file")
  defp check(:names, names), do: Attribute.types!(names)
  defp check(_other, _argument), do: :ok

  defp template_of_pair(template) do
    {public, private} = KeyTemplate.pair(:ec_key_pair_gen, template)
    {Attribute.encode!(public), Attribute.encode!(private)}
  end
end
